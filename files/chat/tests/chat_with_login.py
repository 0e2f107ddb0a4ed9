"""python -m chat_with_login settings.json: the real application, where the header x-user logs in.

It trusts whoever sends that header, so it is for tests alone.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Mapping

from fastapi import FastAPI
from gpufleet_chat import __main__, server
from gpufleet_chat.services import Services
from gpufleet_chat.settings import Secrets, Settings

_create_app = server.create_app


def create_app(settings: Settings, secrets: Secrets) -> tuple[FastAPI, Services]:
    """The application, with the login."""
    app, parts = _create_app(settings, secrets)
    if limit := os.environ.get("TEST_FILE_LIMIT"):
        # Writes beyond it fail, as those on a full disk do.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    # Not before: Chainlit reads its configuration when it is imported.
    import chainlit as cl

    @cl.header_auth_callback
    async def log_in(headers: Mapping[str, str]) -> cl.User | None:
        name = headers.get("x-user")
        return cl.User(identifier=name) if name else None

    return app, parts


if __name__ == "__main__":
    os.environ["CHAINLIT_AUTH_SECRET"] = "a secret of the tests, long enough to sign with"
    server.create_app = create_app
    Settings.keeps_history = property(lambda _settings: True)  # type: ignore[assignment,method-assign]
    sys.exit(__main__.main())
