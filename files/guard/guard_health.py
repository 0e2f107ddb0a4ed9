# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells the gateway how the instance is, from what the watch has seen.

``GET /health`` answers 200 while the model generates tokens and 503 otherwise. It asks vLLM
nothing, so the gateway may ask as often as it likes. vLLM's own ``/health`` says 200 while its
engine hangs.
"""

from __future__ import annotations

import json
import socket
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from guard_admission import admits_all
from guard_settings import Settings, SettingsError
from guard_watch import Watch

_CLIENT_TIMEOUT = 5.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer asks the DNS for its own name, which nobody needs: where the DNS does not
        # answer, vLLM would start half a minute later, and a stop would wait as long.
        socketserver.TCPServer.server_bind(self)


class _Server6(_Server):
    address_family = socket.AF_INET6


def serve_health(settings: Settings, watch: Watch) -> None:
    """Answer on ``health_port`` in threads of their own; raise SettingsError if it is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_TIMEOUT

        def do_GET(self) -> None:
            if self.path != "/health":
                self.send_error(404)
                return
            state = watch.state
            if state in ("ready", "busy") and not admits_all():
                state = "starting"  # its gate has not passed
            document = {"state": state, "model": settings.served_model_name}
            body = json.dumps(document).encode() + b"\n"
            self.send_response(200 if state in ("ready", "busy") else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the gateway keeps the access log."""

    kind = _Server6 if ":" in settings.host else _Server
    try:
        server = kind((settings.host, settings.health_port), Handler)
    except OSError as error:
        raise SettingsError(
            f"health_port {settings.health_port} cannot be used: {error.strerror}; "
            "free it, or give the instance another health_port"
        ) from error
    Thread(target=server.serve_forever, name="health", daemon=True).start()
