"""The instance of inventories/local on its host: its unit, processes, settings and starts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from host import Host

UNIT = "vllm@smollm2.service"
CURRENT = "/opt/gpufleet/vllm/current"
SETTINGS = f"{CURRENT}/instances/smollm2.json"
CONFIG = f"{CURRENT}/instances/smollm2.yaml"
# As the page of every kind of incident says.
RESUME = f"systemctl reset-failed {UNIT} && systemctl start {UNIT}"
# The role's own default, which the scenario leaves alone.
RESTART_ATTEMPTS = 3
# A start costs a minute of both cores; a hang is found within a minute before that.
RECOVERY_SECONDS = 300.0
# systemd's own id of the message that it begins to start a unit: systemd.journal-fields(7).
_STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"


def restarts(host: Host) -> int:
    """Return how often systemd has restarted the unit since its last planned start."""
    return int(host.show(UNIT, "NRestarts")["NRestarts"])


def active(host: Host) -> str:
    """Return the unit's ActiveState."""
    return host.show(UNIT, "ActiveState")["ActiveState"]


def now(host: Host) -> str:
    """Return the host's time as `journalctl --since` reads it."""
    return "@" + host.run("date +%s.%N")


def starts(host: Host, since: str, unit: str = UNIT) -> int:
    """Return how many starts systemd has begun since `now` said so."""
    fields = f"{_STARTING} UNIT={unit}"
    return int(host.run(f"journalctl --quiet --since {since} --output cat {fields} | wc --lines"))


def journal(host: Host, since: str, unit: str = UNIT) -> str:
    """Return what the unit has said since `now` said so."""
    return host.run(f"journalctl --quiet --since {since} --output cat --unit {unit}")


def state(host: Host) -> str:
    """Return what the guard's `check` says."""
    guard = f"python3 {CURRENT}/guard/llm_guard.py"
    return str(json.loads(host.run(f"{guard} check smollm2 --json", check=False))["state"])


def vllm_processes(host: Host) -> set[str]:
    """Return every vLLM process of the host, inside the unit or not."""
    # In brackets, so that the shell that runs this does not match itself.
    found = host.run("pgrep --full '[V]LLM::|[v]llm serve'; [ $? -le 1 ]")
    return set(found.split())


def orphans(host: Host) -> set[str]:
    """Return the vLLM processes that are not in the unit."""
    return vllm_processes(host) - {str(pid) for pid in host.processes(UNIT)}


def settings(host: Host) -> dict[str, Any]:
    """Return the guard's settings of the instance."""
    found: dict[str, Any] = json.loads(host.run(f"cat {SETTINGS}"))
    return found


def config(host: Host) -> dict[str, Any]:
    """Return vLLM's own configuration of the instance."""
    found: dict[str, Any] = yaml.safe_load(host.run(f"cat {CONFIG}"))
    return found


@contextmanager
def changed_file(host: Host, path: str, content: str) -> Iterator[None]:
    """Put another content into a file of the release, and its own back."""
    assert "END\n" not in content
    host.run(f"cp --archive {path} {path}.kept && cat >{path} <<'END'\n{content}\nEND")
    try:
        yield
    finally:
        host.run(f"mv {path}.kept {path}")


def ports(host: Host) -> tuple[list[int], int]:
    """Return the ports that are listened on, of those that the kernel chose only how many."""
    lowest = int(host.run("cut --fields 1 /proc/sys/net/ipv4/ip_local_port_range"))
    listening = host.run("ss -Hltn").splitlines()
    found = [int(re.findall(r":(\d+)\s", line)[0]) for line in listening]
    return sorted(port for port in found if port < lowest), sum(port >= lowest for port in found)
