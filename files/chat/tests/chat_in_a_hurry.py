"""python -m chat_in_a_hurry settings.json: the real application, which waits less."""

from __future__ import annotations

import sys

from fastapi import FastAPI
from gpufleet_chat import __main__, history, server
from gpufleet_chat.services import Services
from gpufleet_chat.settings import Secrets, Settings

_create_app = server.create_app


def create_app(settings: Settings, secrets: Secrets) -> tuple[FastAPI, Services]:
    """The application, whose answers end after a second without their page."""
    history.REOPEN_SECONDS = 0.5
    app, parts = _create_app(settings, secrets)
    from gpufleet_chat import chainlit_presence

    chainlit_presence.ABANDONED_SECONDS = 1
    return app, parts


if __name__ == "__main__":
    server.create_app = create_app
    sys.exit(__main__.main())
