"""Just enough of a websocket client: open, send one text frame, read one."""

from __future__ import annotations

import base64
import os
import socket


def exchange(address: str, headers: dict[str, str], text: str) -> tuple[int, str]:
    """Open a socket with `headers`; returns the status and, when it is 101, the reply to `text`."""
    request = {
        "Host": address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        **headers,
    }
    lines = ["GET /ws/socket.io/?EIO=4&transport=websocket HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.items()]
    with socket.create_connection((address, 80), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = connection.makefile("rb")
        status = int(answer.readline().split()[1])
        if status != 101:
            return status, ""
        while answer.readline() != b"\r\n":
            pass
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(text.encode()))
        connection.sendall(bytes([0x81, 0x80 | len(masked)]) + mask + masked)
        _, length = answer.read(2)
        return status, answer.read(length).decode()
