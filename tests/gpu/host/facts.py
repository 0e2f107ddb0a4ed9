"""What `gpu_facts` and the preflight say of a real card: facts.py RENDERED OUTPUT.

Writes gpu_facts.json and gpu_preflight.json into OUTPUT, for the instance `proof`, and holds the
facts to what nvidia-smi says. Exit status 1 where they differ. run.sh starts it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import Demand
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import Gpus, read_gpus
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Seen
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_cards import check_cards
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_driver import check_driver
from ansible_collections.gpufleet.llm.plugins.module_utils._host_gpu_fit import check_fit
from ansible_collections.gpufleet.llm.plugins.module_utils._host_shared_memory import (
    check_shared_memory,
)
from limits import CONFIG, weight_bytes

NAME = "proof"
# That of the bundle's PyTorch.
CUDA = "13.0"
HELD = 4 * 2**30
_HOLD = f"""
import torch
held = torch.empty({HELD}, dtype=torch.uint8, device="cuda")
print("held", flush=True)
input()
"""
# Fields of nvidia-smi, and how a card of the facts says the same.
FIELDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "name": lambda card: str(card["name"]),
    "uuid": lambda card: str(card["uuid"]),
    "memory.total": lambda card: str((card["memory_total"] or 0) >> 20),
    "compute_cap": lambda card: str(card["compute_capability"]),
    "mig.mode.current": lambda card: on_or_off(card["mig"]),
    "persistence_mode": lambda card: on_or_off(card["persistence"]),
    "ecc.errors.uncorrected.volatile.total": lambda card: errors(card, "volatile"),
    "ecc.errors.uncorrected.aggregate.total": lambda card: errors(card, "aggregate"),
}


def on_or_off(value: bool | None) -> str:
    """A mode as nvidia-smi writes it."""
    return {True: "Enabled", False: "Disabled", None: "[N/A]"}[value]


def errors(card: dict[str, Any], since: str) -> str:
    """A count of memory errors as nvidia-smi writes it."""
    count = (card["ecc"] or {}).get(since)
    return "[N/A]" if count is None else str(count)


def run_command(command: list[str], **_options: object) -> tuple[int, str, str]:
    """Run a command as AnsibleModule.run_command does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def ask_nvidia_smi(*fields: str) -> list[list[str]]:
    """Values of fields, by card."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    _status, output, _errors = run_command(command)
    return [[value.strip() for value in line.split(",")] for line in output.splitlines()]


def differences(facts: dict[str, Any]) -> list[str]:
    """Where the facts say something else than nvidia-smi."""
    by_uuid = {card["uuid"]: card for card in facts["cards"]}
    found = []
    for uuid, driver, address, *values in ask_nvidia_smi(
        "uuid", "driver_version", "pci.bus_id", *FIELDS
    ):
        card = by_uuid.get(uuid)
        if card is None:
            found.append(f"nvidia-smi knows {uuid}, the facts know {list(by_uuid)}")
            continue
        told = [(name, read(card)) for name, read in FIELDS.items()]
        pairs = [(name, ours, smi) for (name, ours), smi in zip(told, values)]
        pairs += [
            ("driver", facts["driver"]["loaded"], driver),
            ("user space", facts["user_space"], driver),
            ("address", card["address"], address.lower()[4:]),
        ]
        found += [f"{name}: {ours}, nvidia-smi {smi}" for name, ours, smi in pairs if ours != smi]
    return found


def memory_that_a_process_takes(before: Gpus) -> dict[str, Any]:
    """Have a process hold memory, and see it in the facts."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        cards = read_gpus(run_command).cards
        process.communicate("\n")
    grown = sum((card.memory_used or 0) for card in cards)
    grown -= sum((card.memory_used or 0) for card in before.cards)
    holders = [asdict(holder) for card in cards for holder in card.processes]
    return {"pid": process.pid, "memory_used_grew_by": grown, "processes": holders}


def preflight(gpus: Gpus, rendered: Path) -> dict[str, Any]:
    """Every check of GPUs, as `host_check` runs them."""
    options = yaml.safe_load((rendered / f"instances/{NAME}.yaml").read_text())
    config = json.loads(CONFIG.read_text())
    demand = Demand(NAME, (0,), options, weight_bytes(config), config)
    checks: dict[str, Callable[[], Seen]] = {
        "driver": lambda: check_driver(gpus, CUDA, managed=False),
        "gpus": lambda: check_cards(gpus, {0}),
        "instances on gpus": lambda: check_fit(gpus, [demand]),
        "shared memory": lambda: check_shared_memory(1),
    }
    seen = {name: check() for name, check in checks.items()}
    return {
        "findings": [asdict(finding) for one in seen.values() for finding in one.findings],
        "checked": {name: one.text for name, one in seen.items()},
    }


def main() -> int:
    """Write both files and print them; return the exit status."""
    rendered, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    gpus = read_gpus(run_command)
    facts = gpus.as_dict()
    report = preflight(gpus, rendered)
    held = memory_that_a_process_takes(gpus)
    for name, document in (("gpu_facts", facts), ("gpu_preflight", report), ("gpu_held", held)):
        text = json.dumps(document, indent=2)
        (output / f"{name}.json").write_text(f"{text}\n")
        print(f"{name}:\n{text}", flush=True)
    wrong = differences(facts)
    if held["memory_used_grew_by"] < HELD:
        wrong.append(f"{HELD} bytes are held, memory_used grew by {held['memory_used_grew_by']}")
    for line in wrong:
        print(f"FAILED: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
