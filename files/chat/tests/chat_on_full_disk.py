"""python -m chat_on_full_disk settings.json: the real application with little room."""

from __future__ import annotations

import resource
import signal
import sys

from fastapi import FastAPI
from gpufleet_chat import __main__, server
from gpufleet_chat.services import Services
from gpufleet_chat.settings import Secrets, Settings

LARGEST_FILE = 262_144

_create_app = server.create_app


def create_app(settings: Settings, secrets: Secrets) -> tuple[FastAPI, Services]:
    """The application, then the limit: writes beyond it fail, as those on a full disk do."""
    app, parts = _create_app(settings, secrets)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
    return app, parts


if __name__ == "__main__":
    server.create_app = create_app
    sys.exit(__main__.main())
