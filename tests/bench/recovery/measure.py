"""How long after a fault the gateway gives a token again, beside the start of a bare vLLM.

measure.py FILE: prints a table, writes all numbers to FILE as JSON. Exit status 1 where a bound is
not kept. Runs against a host of molecule/resilience, which the environment names (host.py).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import bare_unit
import httpx
from host import Host, wait_until

UNIT = "vllm@smollm2.service"
MODEL = "smollm2-135m-instruct"
BARE_STARTS = 3
VICTIMS = ("VLLM::EngineCore", "VLLM::Worker", "vllm serve", "llm_guard")
STOPPED = ("VLLM::EngineCore", "VLLM::Worker")
# The guard's own share: to see that a process is gone, and systemd's pause; or to see a hang.
DEATH_SECONDS, HANG_SECONDS = 8.0, 60.0
PATIENCE_SECONDS = 400.0
# The load of the measurement itself stays small.
ASK_EVERY_SECONDS = 0.2
# A hung engine takes connections and says nothing.
TIMEOUT = httpx.Timeout(5.0, connect=0.5)


@dataclass(frozen=True)
class Recovery:
    """Seconds from the fault to the first token, and what they may be at most; None: no bound."""

    name: str
    kind: str
    seconds: float
    bound: float | None

    @property
    def kept(self) -> bool:
        """Whether the bound is kept."""
        return self.bound is None or self.seconds <= self.bound


def gives_token(url: str) -> bool:
    """Ask for one token."""
    body = {"model": MODEL, "prompt": "Once", "max_tokens": 1}
    try:
        answer = httpx.post(f"{url}/v1/completions", json=body, timeout=TIMEOUT)
        return answer.status_code == 200 and answer.json()["usage"]["completion_tokens"] == 1
    except (httpx.HTTPError, ValueError, KeyError):
        return False


def first_token(url: str, since: float) -> float:
    """Ask until a token comes after none did; return the seconds from `since` on this clock.

    A process that was just killed may still have answered a request before it was gone.
    """
    failed = False
    while True:
        given = gives_token(url)
        seconds = time.monotonic() - since
        if given and failed:
            return seconds
        failed = failed or not given
        assert failed or seconds < HANG_SECONDS, "the fault has stopped nothing"
        assert seconds < PATIENCE_SECONDS, f"no token within {PATIENCE_SECONDS:.0f} s"
        time.sleep(ASK_EVERY_SECONDS)


def bare_start(host: Host) -> float:
    """Start vLLM without the guard; return the seconds to its first token."""
    started = time.monotonic()
    bare_unit.start_bare_unit(host)
    try:
        return first_token(f"http://{host.address}:{bare_unit.PORT}", started)
    finally:
        bare_unit.stop_bare_unit(host)


def signal(name: str, victim: str) -> Callable[[Host], float]:
    """Return a fault that sends a signal to one process; it returns the moment."""

    def act(host: Host) -> float:
        pid = host.pid_of(UNIT, victim)
        # From before the connection: it counts against us.
        now = time.monotonic()
        host.run(f"kill -{name} {pid}")
        return now

    return act


def power_on(host: Host) -> float:
    """Shut the host down and start it; return the moment of the start."""
    host.shut_down()
    now = time.monotonic()
    host.boot()
    return now


def recover(host: Host, url: str, fault: Callable[[Host], float]) -> float:
    """Break the healthy service; return the seconds to the first token."""
    host.run(f"systemctl reset-failed {UNIT}")
    wait_until("the service answers", lambda: gives_token(url), PATIENCE_SECONDS)
    # What the recovery before has left to do is done.
    time.sleep(5)
    return first_token(url, fault(host))


def measure(host: Host) -> tuple[list[float], list[Recovery]]:
    """Return the bare starts and all recoveries."""
    url = f"http://{host.address}"
    host.run(f"systemctl stop {UNIT}")
    bare = [bare_start(host) for _ in range(BARE_STARTS)]
    host.run(f"systemctl start {UNIT}")
    typical = statistics.median(bare)
    found = [
        *(
            ("kill -9", victim, signal("KILL", victim), typical + DEATH_SECONDS)
            for victim in VICTIMS
        ),
        *(
            ("SIGSTOP", victim, signal("STOP", victim), typical + HANG_SECONDS)
            for victim in STOPPED
        ),
        ("restart", "of the host", power_on, None),
    ]
    recoveries = []
    for kind, victim, fault, bound in found:
        recoveries.append(Recovery(victim, kind, recover(host, url, fault), bound))
        print(f"{kind} {victim}: {recoveries[-1].seconds:.1f} s", flush=True)
    return bare, recoveries


def table(bare: list[float], recoveries: list[Recovery]) -> str:
    """Return the numbers as lines of Markdown."""
    lines = ["| fault | first token after | bound | kept |", "|---|---|---|---|"]
    lines += [f"| bare start {n} | {seconds:.1f} s | | |" for n, seconds in enumerate(bare, 1)]
    for one in recoveries:
        bound = (
            ("", "") if one.bound is None else (f"{one.bound:.1f} s", "yes" if one.kept else "NO")
        )
        lines.append(f"| {one.kind} {one.name} | {one.seconds:.1f} s | {bound[0]} | {bound[1]} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write; return the exit status."""
    bare, recoveries = measure(Host.from_environment())
    document = {
        "bare_starts_seconds": bare,
        "bare_median_seconds": statistics.median(bare),
        "recoveries": [{**asdict(one), "kept": one.kept} for one in recoveries],
    }
    Path(sys.argv[1]).write_text(json.dumps(document, indent=2) + "\n")
    print(table(bare, recoveries))
    return 0 if all(one.kept for one in recoveries) else 1


if __name__ == "__main__":
    sys.exit(main())
