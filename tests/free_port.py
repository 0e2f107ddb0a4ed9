"""A port for a server that a test starts a moment later."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_FIRST = 10000
# UDP sockets on the numbers handed out, open until this process ends.
_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free, and that nothing else is given by chance.

    The kernel gives the ports of ``ip_local_port_range`` to every connection that a program
    opens, so the port comes from below that range. A UDP socket on the same number keeps the
    tests of all other processes from choosing it too before the server binds it.
    """
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(_FIRST, end)
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        return port
