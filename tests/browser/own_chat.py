"""A chat of the test's own, on a back end that answers and fails as the test says.

CHAT_PYTHON is the interpreter that runs the chat; its default is the one that `make chat` uses.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
CHAT = REPOSITORY / "files" / "chat"
sys.path[:0] = [str(CHAT / "tests"), str(REPOSITORY / "tests")]

from fake_upstream import Answer, FakeUpstream, Status  # noqa: E402
from free_port import free_port  # noqa: E402

__all__ = ["CHAT", "CHAT_PYTHON", "Answer", "FakeUpstream", "OwnChat", "Status"]
START_SECONDS = 60.0
CHAT_PYTHON = os.environ.get("CHAT_PYTHON", str(REPOSITORY / ".cache/chat-venv/bin/python"))


class OwnChat:
    """The real application as a process, and its fake back end in a thread of this one."""

    def __init__(
        self, directory: Path, credentials: Path | None = None, /, **settings: object
    ) -> None:
        self.fake = FakeUpstream()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._directory = directory
        self._credentials = credentials
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> OwnChat:
        self._thread.start()
        self.recover()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        settings = {
            "upstream_url": self.fake.url,
            "port": port,
            "title": "Fleet Chat",
            "state_directory": str(self._directory / "state"),
            "monitor": {"interval_seconds": 0.2, "timeout_seconds": 1, "failures": 2},
            "messages_per_minute": 0,
            **self._settings,
        }
        path = self._directory / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(CHAT)}
        if self._credentials is not None:
            environment["CREDENTIALS_DIRECTORY"] = str(self._credentials)
        with (self._directory / "chat.log").open("wb") as log:
            self._process = subprocess.Popen(
                [CHAT_PYTHON, "-m", "gpufleet_chat", str(path)],
                cwd=self._directory,
                env=environment,
                stderr=log,
            )
        self._wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.fail()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fail(self) -> None:
        """Take the back end away."""
        self._on_loop(self.fake.stop())

    def recover(self) -> None:
        """Bring the back end, again on the same port."""
        self._on_loop(self.fake.start())

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        # Not through a proxy of this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(f"{self.url}readyz", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                log = (self._directory / "chat.log").read_text(encoding="utf-8")
                assert self._process is not None
                assert self._process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
