# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the cards of this host well?"""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_bus import FALLEN
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpu, Gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    ADVICE,
    WARNING,
    Finding,
    Seen,
)

_POWER_CYCLE = (
    "Restart the host; a card that is gone from the bus needs the power to be off for a moment. "
    "docs/incidents/gpu_lost.md tells more."
)
# What the driver calls fatal to the work on a card (NVIDIA, "XID Errors"). Others, such as 13, 31
# and 43, are mistakes of programs.
_GRAVE = {
    48: "an uncorrectable memory error",
    62: "its controller halted",
    64: "memory could not be remapped",
    74: "an error of NVLink",
    FALLEN: "it has fallen off the bus, and was reset since",
    95: "an uncontained memory error",
    119: "its processor did not answer",
    120: "its processor failed",
    140: "an unrecovered memory error",
    154: "the driver asks for a reset or a restart",
}


def check_cards(gpus: Gpus, planned: set[int]) -> Seen:
    """Judge the cards of these indexes; those of no instance are left alone."""
    count = len(gpus.cards)
    names = ", ".join(sorted({card.name or card.device_id for card in gpus.cards}))
    seen = Seen(f"{count} x {names}" if count else "none")
    if not count and not gpus.lost:
        seen.findings.append(
            Finding(
                "vllm_variant",
                "No NVIDIA GPU is on its bus (vendor 0x10de, class 0x0300 or 0x0302).",
                "Take the host out of the group inference, pass the GPU through to this machine, "
                "or, on a test host, set vllm_variant: cpu.",
            )
        )
    for address in gpus.lost:
        seen.findings.append(
            Finding(
                "gpus",
                f"GPU {address} has fallen off the bus (Xid {FALLEN} in the kernel log).",
                _POWER_CYCLE,
            )
        )
    if count and gpus.log_error:
        seen.findings.append(
            Finding(
                "gpus",
                f"The kernel log cannot be read, so errors of cards are unseen: {gpus.log_error}.",
                "Look with: journalctl --dmesg --grep NVRM",
                WARNING,
            )
        )
    for card in gpus.cards:
        if card.index in planned and card.address not in gpus.lost:
            seen.findings += _card(card)
    return seen


def _card(card: Gpu) -> Iterator[Finding]:
    variable, here = f"gpus[{card.index}]", f"GPU {card.index} ({card.address})"
    if not card.answers:
        yield Finding(variable, f"{here} does not answer on its bus.", _POWER_CYCLE)
        return
    if card.error:
        yield Finding(
            variable,
            f"{here} is on the bus, but the driver cannot use it. {card.error}.",
            f"Look at `journalctl --dmesg --grep NVRM`. {_POWER_CYCLE}",
        )
        return
    if card.mig:
        yield Finding(
            variable,
            f"{here} is cut into parts (MIG): an instance would see one part, not the card.",
            f"nvidia-smi -i {card.index} -mig 0, while nothing uses the card; some need a reset or "
            "a restart of the host after it.",
        )
    yield from _memory_errors(card, variable, here)
    grave = [f"{number} ({_GRAVE[number]})" for number in card.xids if number in _GRAVE]
    if grave:
        yield Finding(
            variable,
            f"{here} had errors since the host was started: Xid {', '.join(grave)}.",
            "Restart the host; if they come again within days, have the card replaced.",
            WARNING,
        )
    if card.persistence is False:
        yield Finding(
            variable,
            f"{here} is put to sleep whenever nothing uses it (persistence mode off): each start "
            "waits for it to wake up, and its settings are lost.",
            "nvidia-smi --persistence-mode=1, until the next start; playbooks/driver.yml has it "
            "set at each.",
            WARNING,
        )


def _memory_errors(card: Gpu, variable: str, here: str) -> Iterator[Finding]:
    ecc = card.ecc
    if ecc is None:
        return
    if ecc.failed:
        yield Finding(
            variable,
            f"{here} has bad memory that it could not replace by spare rows.",
            "Have the card replaced, and take it out of gpus until then.",
        )
    elif ecc.pending:
        yield Finding(
            variable,
            f"{here} has bad memory, and replaces it when it is reset (pending).",
            f"nvidia-smi -i {card.index} --gpu-reset, while nothing uses the card, or restart the "
            "host.",
        )
    elif ecc.volatile:
        yield Finding(
            variable,
            f"{here} had {ecc.volatile} uncorrectable memory errors since the driver was loaded.",
            "Restart the host; if they come again within days, have the card replaced.",
            WARNING,
        )
    elif ecc.aggregate:
        yield Finding(
            variable,
            f"{here} had {ecc.aggregate} uncorrectable memory errors in its life, none since the "
            "driver was loaded.",
            f"Watch it: nvidia-smi -i {card.index} -q -d ECC,ROW_REMAPPER",
            ADVICE,
        )
