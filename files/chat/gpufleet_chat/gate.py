"""The gate of the unit: the start counts only when the app answers and a page could connect."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import time

import httpx

from gpufleet_chat.settings import Settings

ASK_EVERY_SECONDS = 0.5


def wait(settings: Settings, deadline_seconds: float) -> str | None:
    """Wait until the app answers; the reason why it does not, or None when it does.

    Gives up at once when the process that systemd names in MAINPID has gone.
    """
    give_up = time.monotonic() + deadline_seconds
    with httpx.Client(base_url=_address(settings), timeout=5.0, trust_env=False) as client:
        while True:
            reason = _not_answering(client, settings.root_path)
            if reason is None:
                return None
            if not _main_process_lives():
                return "the app has ended: its log says why"
            if time.monotonic() > give_up:
                return f"{reason}, for {deadline_seconds:.0f} s"
            time.sleep(ASK_EVERY_SECONDS)


def _address(settings: Settings) -> str:
    """Where this host reaches the app; every address includes the loopback one."""
    host = settings.listen_address
    with contextlib.suppress(ValueError):  # a name instead of an address
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _not_answering(client: httpx.Client, root_path: str) -> str | None:
    try:
        alive = client.get("/healthz")
        if alive.json().get("status") != "alive":
            return f"/healthz says {alive.text[:100]}"
        # Chainlit answers any path with a page; only the socket's handshake begins like this.
        opened = client.get(f"{root_path}/ws/socket.io/?EIO=4&transport=polling")
        return None if opened.text.startswith("0{") else "Chainlit opens no socket"
    except (httpx.HTTPError, ValueError) as error:
        return f"no answer ({type(error).__name__})"


def _main_process_lives() -> bool:
    pid = os.environ.get("MAINPID")
    if pid is None:
        return True
    try:
        # Not by /proc, in which the unit's sandbox shows this process nothing of the other.
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True
