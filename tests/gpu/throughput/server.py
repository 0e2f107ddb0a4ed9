"""Starts vLLM with the rendered configuration of one instance, times its start, stops it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from _probe import Client, Unreachable, generated_tokens, send_token_probe
from guard_processes import descendants
from guard_stop import receivers, terminate

URL = "http://127.0.0.1:8000"
MODEL = "qwen3-0.6b-fp8"


class Server:
    """One run of vLLM; all instances share one cache of compiled kernels, that of `proof`."""

    def __init__(self, release: Path, name: str, log: Path, cache: str = "proof") -> None:
        settings = json.loads((release / f"instances/{name}.json").read_text())
        own, shared = f"/var/cache/gpufleet/{name}", f"/var/cache/gpufleet/{cache}"
        environment = {
            key: value.replace(own, shared) for key, value in settings["environment"].items()
        }
        Path(shared).mkdir(parents=True, exist_ok=True)
        self._log = log.open("wb")
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [release / "venv/bin/vllm", "serve", "--config", f"instances/{name}.yaml"],
            cwd=release,
            env={**os.environ, **environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def first_token(self, patience: float) -> float:
        """Wait for one token; return the seconds since the start. Raises TimeoutError."""
        client = Client(URL)
        while self._process.poll() is None and time.monotonic() - self._started < patience:
            try:
                reply = send_token_probe(client, MODEL, 30.0)
                if reply.status == 200 and generated_tokens(reply.json()) == 1:
                    return time.monotonic() - self._started
            except Unreachable:
                pass
            time.sleep(0.2)
        raise TimeoutError(f"no token in {patience:.0f} s, status {self._process.poll()}")

    def terminate(self) -> None:
        """Ask it to finish what it has, as the guard does."""
        terminate(receivers(self._process.pid, descendants(self._process.pid)))

    def end(self, patience: float = 30.0) -> float:
        """Wait for its end, and kill what is left of it; return the seconds that it took."""
        began = time.monotonic()
        # Where only its engine was asked.
        terminate([self._process.pid])
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            print("vLLM did not end and is killed", flush=True)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        return time.monotonic() - began

    def facts(self) -> dict[str, Any]:
        """What /metrics says of its cache and scheduler."""
        reply = Client(URL).request("GET", "/metrics", 10.0)
        lines = reply.body.decode("utf-8", "replace").splitlines()
        return {"cache_config": [line for line in lines if line.startswith("vllm:cache_config")]}
