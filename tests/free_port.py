"""A port for a server that a test starts a moment later."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 10000


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free and that no other connection is given by chance.

    The kernel gives the ports of ``ip_local_port_range`` to every connection that a program
    opens, one of a test in another process included: a port from there may be taken before the
    server binds it. So the port comes from below that range.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, end)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
