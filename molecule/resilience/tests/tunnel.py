"""A way from a test host to this machine: ports of its loopback that lead to ports of ours.

It needs no rights here, not even for port 443, and comes back after a restart of the host.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from host import Host, wait_until

_AGAIN_SECONDS = 1.0
_OPTIONS = ("ExitOnForwardFailure=yes", "ServerAliveInterval=2", "ServerAliveCountMax=3")


@contextmanager
def tunnel(host: Host, ports: Mapping[int, int]) -> Iterator[None]:
    """Open it; `ports` are ours by the host's."""
    options = [argument for option in _OPTIONS for argument in ("-o", option)]
    for theirs, ours in ports.items():
        options += ["-R", f"127.0.0.1:{theirs}:127.0.0.1:{ours}"]
    command = [*host.ssh("-N", *options)]
    closing = threading.Event()

    def keep_open() -> None:
        while not closing.is_set():
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as ssh:
                while ssh.poll() is None and not closing.wait(0.2):
                    pass
                ssh.terminate()
            closing.wait(_AGAIN_SECONDS)

    thread = threading.Thread(target=keep_open, daemon=True)
    thread.start()
    listening = " && ".join(f"ss -Hltn 'sport = :{port}' | grep --quiet ." for port in ports)
    try:
        open_ = f"the tunnel of {host.address} is open"
        wait_until(open_, lambda: host.run(f"{listening} && echo yes", check=False) == "yes", 30)
        yield
    finally:
        closing.set()
        thread.join()
