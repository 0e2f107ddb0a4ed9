"""What is measured: the chat app, a plain Chainlit app, and the source of tokens they share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).resolve().parent
CHAT = HERE.parents[2] / "files/chat"
sys.path.insert(0, str(HERE.parents[1]))

from free_port import free_port  # noqa: E402

# Tokens that each chat gets per second.
RATE = 50.0
START_SECONDS = 60.0
OURS, PLAIN, DIRECT = "gpufleet_chat", "chainlit run", "stream itself"


@dataclass(frozen=True)
class Subject:
    """Where the clients go, and the process whose time counts."""

    name: str
    kind: str
    url: str
    pid: int | None


@contextmanager
def server(
    command: Sequence[str], url: str, directory: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; it answers at the URL when the block begins."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command} does not answer: {log.read_text()}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def subjects(directory: Path, plain_python: Path) -> Iterator[list[Subject]]:
    """Start the source of tokens and both apps, each in a directory of its own.

    The plain app runs in the environment that its guide installs.
    """
    upstream_port, ours_port, plain_port = free_port(), free_port(), free_port()
    upstream_url = f"http://127.0.0.1:{upstream_port}/v1"
    for name in ("upstream", "ours", "plain"):
        (directory / name).mkdir()
    settings = {
        "upstream_url": upstream_url,
        "state_directory": str(directory / "ours/state"),
        "port": ours_port,
        # All chats come from one address here, which stands for one person.
        "messages_per_minute": 0,
        "questions_per_person": 1000,
    }
    (directory / "ours/settings.json").write_text(json.dumps(settings))
    ours_url, plain_url = f"http://127.0.0.1:{ours_port}", f"http://127.0.0.1:{plain_port}"
    upstream = [sys.executable, str(HERE / "upstream.py"), str(upstream_port), str(RATE)]
    ours = [sys.executable, "-m", "gpufleet_chat", "settings.json"]
    plain = [str(plain_python), "-m", "chainlit", "run", str(HERE / "plain_app.py"), "--headless"]
    plain += ["--port", str(plain_port)]
    with ExitStack() as running:
        running.enter_context(server(upstream, f"{upstream_url}/health", directory / "upstream"))
        our_process = running.enter_context(
            server(ours, f"{ours_url}/readyz", directory / "ours", PYTHONPATH=str(CHAT))
        )
        plain_process = running.enter_context(
            server(plain, f"{plain_url}/health", directory / "plain", UPSTREAM_URL=upstream_url)
        )
        yield [
            Subject(OURS, "page", ours_url, our_process.pid),
            Subject(PLAIN, "page", plain_url, plain_process.pid),
            Subject(DIRECT, "stream", upstream_url, None),
        ]


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process and its descendants have had."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of a process may hold spaces and brackets.
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        number = int(entry.parent.name)
        parents[number] = int(fields[1])
        # Those of children that have ended as well.
        ticks[number] = sum(int(field) for field in fields[11:15])
    family = {pid}
    while more := {one for one, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(ticks[one] for one in family) / os.sysconf("SC_CLK_TCK")
