"""Proves the guard on a real GPU: prove.py RENDERED OUTPUT [INSTANCE].

Starts an instance, `proof` unless another is named, under its unit, checks it level by level, kills
and stops its engine, stops an API server, and stops the unit under load. Writes proof.json and
guard.log into OUTPUT. Exit status 1 where something is not as expected; what comes after is still
tried. run.sh starts it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import guard_processes
import release
import unit
from _probe import LEVELS, Canary, Client, Target, check, generated_tokens, send_token_probe
from _probe import Unreachable as NoAnswer
from llm_load import Load, send_together

MODEL = "qwen3-0.6b-fp8"
ENGINE, API_SERVER = "VLLM::EngineCor", "VLLM::APIServer"
URL, HEALTH = "http://127.0.0.1:8000", "http://127.0.0.1:9000/health"
# Random weights know no capital: the last level must see it, and no other one can.
CANARY = Canary("What is the capital of France?", "Paris")
START_SECONDS = 280.0
DRAINED, DRAIN_TOKENS = 64, 1500
# The guard's own share of a recovery, on top of a start: see docs/testing.md.
DEATH_SECONDS, HANG_SECONDS = 12.0, 60.0


class Proof:
    """The findings, written after every step: the machine may be taken away."""

    def __init__(self, rendered: Path, output: Path, name: str) -> None:
        self.output = output
        self.found: dict[str, Any] = {"steps": {}, "failures": []}
        self.release = release.lay_out(rendered)
        self.log = output / "guard.log"
        self.unit = unit.load(rendered, name, self.release, release.STATE, self.log)

    def step(self, name: str, act: Callable[[], dict[str, Any]]) -> None:
        """Try one step; keep its numbers or its failure."""
        started = time.monotonic()
        try:
            found = act()
        except Exception as error:
            found = {}
            self.expect(False, f"{name}: {type(error).__name__}: {error}")
        self.found["steps"][name] = {**found, "took_seconds": round(time.monotonic() - started, 2)}
        print(f"{name}: {json.dumps(found)}", flush=True)
        self.write()

    def expect(self, holds: bool, what: str) -> None:
        """Note a failure."""
        if not holds:
            print(f"FAILED: {what}", flush=True)
            self.found["failures"].append(what)

    def write(self) -> None:
        """Write what is known so far."""
        self.found["events"] = [vars(event) for event in self.unit.events]
        self.found["notices"] = [json.loads(path.read_text()) for path in notices()]
        (self.output / "proof.json").write_text(json.dumps(self.found, indent=2) + "\n")


def notices() -> list[Path]:
    """Everything that people would be told, oldest first."""
    return sorted((release.STATE / "notices").glob("*.json"))


def gives_token(timeout: float = 2.0) -> bool:
    """Ask for one token."""
    try:
        reply = send_token_probe(Client(URL), MODEL, timeout)
    except NoAnswer:
        return False
    return reply.status == 200 and generated_tokens(reply.json()) == 1


def status_of(url: str) -> int | str:
    """Status of a GET, or what happened instead."""
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__


def process_of(title: str) -> int:
    """One of vLLM's processes, by its title as the kernel cuts it off."""
    for process in guard_processes.descendants(os.getpid()):
        if process.title == title and process.state not in "ZX":
            return process.pid
    raise AssertionError(f"no {title} runs")


def gpu_memory_mebibytes() -> int:
    """Memory in use on the card, in MiB."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    )


def start(proof: Proof) -> dict[str, Any]:
    """From nothing to the first token, with no cache of compiled kernels."""
    began = time.monotonic()
    proof.unit.start()
    active = proof.unit.wait_for("active", began, START_SECONDS)
    return {"cold_start_seconds": round(active.at - began, 1), "gpu_mib": gpu_memory_mebibytes()}


def levels(proof: Proof) -> dict[str, Any]:
    """Every level of the probe, which is what `llm_health` and the guard ask."""
    target = Target(Client(URL), MODEL, CANARY)
    found = {level: check(target, level).as_dict() for level in LEVELS}
    for level in LEVELS[:-1]:
        proof.expect(found[level]["state"] == "ready", f"level {level}: {found[level]}")
    proof.expect(found["canary"]["state"] == "wrong_answer", f"canary: {found['canary']}")
    command = [unit.PYTHON, "guard/llm_guard.py", "check", proof.unit.name, "--json"]
    told = subprocess.run(command, cwd=proof.release, capture_output=True, text=True)
    proof.expect(told.returncode == 0, f"llm_guard check: {told.returncode} {told.stdout}")
    # The gate may pass a moment before the watch has seen a token of its own.
    time.sleep(2)
    health = status_of(HEALTH)
    proof.expect(health == 200, f"health_port says {health}")
    return {"levels": found, "check": json.loads(told.stdout), "health_port": health}


def recovery(
    proof: Proof, number: signal.Signals, bound: float, title: str = ENGINE
) -> dict[str, Any]:
    """Send a signal to one of vLLM's processes; time what the guard does about it."""
    # The watch begins with the first token; what follows is about a watched instance.
    time.sleep(3)
    before = len(notices())
    moment = time.monotonic()
    os.kill(process_of(title), number)
    seen: dict[str, Any] = {}
    if number == signal.SIGSTOP:
        time.sleep(3)
        seen["vllm_health_while_stopped"] = status_of(f"{URL}/health")
        seen["token_while_stopped"] = gives_token()
        # Another API server goes on.
        expected_token = title != ENGINE
        proof.expect(seen["token_while_stopped"] == expected_token, f"{title} stopped: {seen}")
    failed = proof.unit.wait_for("failed", moment, 120)
    again = proof.unit.wait_for("starting", failed.at, 30)
    active = proof.unit.wait_for("active", again.at, START_SECONDS)
    proof.expect(gives_token(), "active, but no token")
    noticed, restart = failed.at - moment, active.at - again.at
    proof.expect(noticed <= bound, f"noticed after {noticed:.1f} s, bound {bound:.0f} s")
    kinds = [path.stem.split("-", 1)[1] for path in notices()[before:]]
    expected = ["restarted" if number == signal.SIGKILL else "hang_killed", "recovered"]
    proof.expect(kinds == expected, f"notices {kinds}, expected {expected}")
    return {
        **seen,
        "seconds_until_guard_ended": round(noticed, 1),
        "seconds_of_warm_start": round(restart, 1),
        "seconds_until_active_again": round(active.at - moment, 1),
        "notices": kinds,
    }


def drain(proof: Proof) -> dict[str, Any]:
    """Stop the unit while streams run: all of them end whole."""
    load = Load("127.0.0.1", 8000, MODEL, DRAINED, output_tokens=DRAIN_TOKENS)
    found: dict[str, Any] = {}
    stopping = threading.Thread(target=lambda: found.update(stop_seconds=proof.unit.stop()))

    def stop() -> None:
        stopping.start()
        time.sleep(0.5)
        found["health_port_while_stopping"] = status_of(HEALTH)
        found["new_request_gives_token"] = gives_token(5.0)

    found["streams"] = send_together(load, stop)
    stopping.join()
    whole = found["streams"]["whole"]
    proof.expect(whole == DRAINED, f"{DRAINED - whole} of {DRAINED} streams lost in the drain")
    proof.expect(found["health_port_while_stopping"] == 503, "health_port does not say 503")
    last = proof.unit.events[-1]
    proof.expect(last.state == "inactive", f"the unit is {last.state} after a stop")
    below = guard_processes.descendants(os.getpid())
    left = [process.title for process in below if process.state not in "ZX"]
    proof.expect(not left, f"left over: {left}")
    time.sleep(2)
    found["gpu_mib_after"] = gpu_memory_mebibytes()
    proof.expect(found["gpu_mib_after"] < 2000, f"GPU memory in use: {found['gpu_mib_after']} MiB")
    return found


def main() -> int:
    """Run every step; return the exit status."""
    rendered, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    release.apply_limits()
    # What escapes the guard is found below this process.
    guard_processes.become_subreaper()
    proof = Proof(rendered, output, sys.argv[3] if len(sys.argv) > 3 else "proof")
    proof.step("start", lambda: start(proof))
    if not proof.found["failures"]:
        proof.step("levels", lambda: levels(proof))
        proof.step("kill", lambda: recovery(proof, signal.SIGKILL, DEATH_SECONDS))
        proof.step("stop", lambda: recovery(proof, signal.SIGSTOP, HANG_SECONDS))
        if API_SERVER in {one.title for one in guard_processes.descendants(os.getpid())}:
            proof.step(
                "stop_api_server",
                lambda: recovery(proof, signal.SIGSTOP, HANG_SECONDS, API_SERVER),
            )
        proof.step("drain", lambda: drain(proof))
    if proof.found["failures"]:
        print(proof.log.read_text(errors="replace")[-6000:])
        proof.unit.stop()
    return 1 if proof.found["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
