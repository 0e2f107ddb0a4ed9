"""What systemd's own tools say about every unit, on this distribution's systemd.

verify.yml has rendered the units of other hosts to /srv/units.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from .conftest import on_host

NAMES = [
    "vllm@.service",
    "chainlit.service",
    "vllm-second-chance@.service",
    "llm-alert.service",
    "llm-alert@.service",
    "vllm-second-chance@.timer",
    "llm-alert.path",
    "vllm.target",
]
UNITS = [f"/srv/units/{name}" for name in NAMES]
# Most exposure, in tenths of what systemd-analyze counts. nginx's master is root, or it could
# neither read the keys nor open the ports.
EXPOSURE = {**dict.fromkeys(UNITS[:5], 20), "nginx.service": 25}
# Keys that an older systemd ignores with a warning, with the version that brought them:
# RestartMode=direct gives one alert per failure where there would be one per restart; 252 has no
# more than one without it. 252 keeps the first pause before restarts.
NEWER = {"RestartMode": 254, "RestartSteps": 254, "RestartMaxDelaySec": 254}


def version() -> int:
    """Version of the host's systemd."""
    return int(on_host("systemctl --version").split()[1])


def complaints(unit: str) -> list[str]:
    """What `systemd-analyze verify` prints: it exits with 0 whatever it finds."""
    return on_host(f"systemd-analyze verify --man=no {unit} 2>&1 || true").splitlines()


@pytest.mark.parametrize("unit", [*UNITS, "nginx.service"])
def test_verify_prints_nothing(unit: str) -> None:
    known = {
        f"Unknown key '{key}' in section [Service], ignoring."
        for key, since in NEWER.items()
        if version() < since
    }
    found = {re.sub(r"^\S+:\d+: ", "", line) for line in complaints(unit)}
    assert found <= known


def test_verify_finds_a_misspelt_key() -> None:
    copy = "/srv/units/misspelt.service"
    on_host(f"sed 's/^ProtectHome=/ProtectHouse=/' {UNITS[1]} >{copy}")
    try:
        assert any("ProtectHouse" in line for line in complaints(copy))
    finally:
        on_host(f"rm {copy}")


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(unit: str) -> None:
    check = "systemd-analyze security --no-pager --offline=true"
    on_host(f"{check} --threshold={EXPOSURE[unit]} {unit}")
    with pytest.raises(subprocess.CalledProcessError) as too_much:
        on_host(f"{check} --threshold=5 {unit}")
    print(unit, too_much.value.stdout.splitlines()[-1])
