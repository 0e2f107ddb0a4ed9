# mypy: untyped-calls-exclude=chainlit
"""The web server: our own routes, Chainlit mounted behind them, and a drain at the end."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from gpufleet_chat import app_root, metrics, services
from gpufleet_chat.bounds import BodyBound, socket_bytes
from gpufleet_chat.chainlit_version import require_known_version
from gpufleet_chat.client_address import ClientAddress
from gpufleet_chat.headers import Guard, content_security_policy
from gpufleet_chat.logs import event
from gpufleet_chat.monitor import State
from gpufleet_chat.proven_name import ProvenName
from gpufleet_chat.request_language import RequestLanguage
from gpufleet_chat.services import Services
from gpufleet_chat.settings import Secrets, Settings
from gpufleet_chat.turn import StopReason
from gpufleet_chat.visitors import Visitors

log = logging.getLogger(__name__)

MOUNT_TARGET = Path(__file__).parent / "mount" / "target.py"
CHAINLIT_CHECK_SECONDS = 5.0
# For open connections to close and cancelled answers to be closed with a word.
LAST_SECONDS = 3


def create_app(settings: Settings, secrets: Secrets) -> tuple[FastAPI, Services]:
    """The application and its parts; prepares Chainlit's root and then imports Chainlit."""
    require_known_version()
    parts = services.build(settings, secrets)
    services.install(parts)
    os.environ["CHAINLIT_APP_ROOT"] = str(app_root.prepare(settings))
    os.environ.update(parts.logins.environment)
    if secrets.auth_secret:
        os.environ["CHAINLIT_AUTH_SECRET"] = secrets.auth_secret
    # Chainlit reads its root and its configuration when it is imported.
    import chainlit.config
    import chainlit.server
    from chainlit.utils import mount_chainlit

    app = FastAPI(lifespan=_lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.parts = parts
    _add_routes(app, parts, settings.root_path)
    mount_chainlit(app, str(MOUNT_TARGET), path=settings.root_path or "/")
    page = chainlit.server.get_html_template(settings.root_path)
    app.add_middleware(ClientAddress)
    app.add_middleware(RequestLanguage)
    app.add_middleware(ProvenName, settings=settings, logins=parts.logins)
    app.add_middleware(Visitors, path=settings.root_path or "/")
    app.add_middleware(
        BodyBound,
        upload_max_mib=settings.upload_max_mib,
        message_max_chars=settings.message_max_chars,
        uploads=chainlit.config.FILES_DIRECTORY,
        messages=parts.messages,
    )
    # Added last, hence outermost: it marks the cookies of all others.
    app.add_middleware(Guard, policy=content_security_policy(page))
    return app, parts


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Run the monitor and the adapter's loop as long as the server runs."""
    parts: Services = app.state.parts
    loops = [parts.monitor.run, *parts.background]
    if parts.history is not None:
        await parts.history.open()
        loops.append(parts.history.run)
    app.state.loops = [asyncio.create_task(loop()) for loop in loops]
    for task in app.state.loops:
        task.add_done_callback(_log_death)
    try:
        yield
    finally:
        for task in app.state.loops:
            task.cancel()
        await asyncio.gather(*app.state.loops, return_exceptions=True)
        if parts.history is not None:
            await parts.history.close()
        await parts.upstream.close()


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error(event("loop_died"), exc_info=task.exception())


def _add_routes(app: FastAPI, parts: Services, root_path: str) -> None:
    # In-process: asks Chainlit's own router, without a port or a name to get wrong.
    inside = httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", trust_env=False
    )

    @app.api_route("/healthz", methods=["GET", "HEAD"])
    async def healthz() -> JSONResponse:
        """Whether the process lives: its event loop runs, and so do its background loops."""
        if any(task.done() for task in app.state.loops):
            return JSONResponse({"status": "broken", "reason": "a background loop died"}, 503)
        return JSONResponse({"status": "alive"})

    @app.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """Whether a question asked now would be answered."""
        reason = await not_ready()
        if reason is not None:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready"})

    @app.post(f"{root_path}/auth/jwt")
    async def no_exchange_of_tokens() -> Response:
        """Chainlit gives a new session for any that still lasts, so that none would ever end."""
        return JSONResponse({"detail": "there is no such route"}, 404)

    @app.get("/metrics")
    async def prometheus() -> Response:
        """The numbers of this process for a monitoring system; the gateway hides them."""
        return Response(parts.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def not_ready() -> str | None:
        if parts.turns.draining:
            return "draining"
        if parts.monitor.state is not State.UP:
            return f"back end is {parts.monitor.state.value}"
        try:
            response = await inside.get(f"{root_path}/health", timeout=CHAINLIT_CHECK_SECONDS)
            # Chainlit answers any unknown path with a page and status 200.
            answers = response.json() == {"status": "ok"}
        except (httpx.HTTPError, ValueError):
            answers = False
        return None if answers else "the user interface does not answer"


class DrainingServer(uvicorn.Server):
    """A server that lets running answers finish before it stops; a second signal stops it now."""

    def __init__(self, config: uvicorn.Config, parts: Services) -> None:
        super().__init__(config)
        self._parts = parts
        self._signals = 0
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask for the drain; the signal is not raised again at the end, so the status is 0."""
        self._signals += 1

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; True ends the server."""
        if self._signals == 0:
            return await super().on_tick(counter)
        turns = self._parts.turns
        if self._deadline is None:
            turns.draining = True
            self._deadline = time.monotonic() + self._parts.settings.drain_seconds
            log.info(event("drain_begins", turns=len(turns)))
        late = self._signals > 1 or time.monotonic() >= self._deadline
        if len(turns) and not late:
            return await super().on_tick(counter)
        log.info(event("drain_ends", turns_cut=turns.stop(StopReason.RESTART)))
        await self._let_turns_end()
        return True

    async def _let_turns_end(self) -> None:
        """Give cut answers the time to say so, and the last words the time to be sent."""
        await self._parts.turns.wait_ended(LAST_SECONDS)
        await asyncio.sleep(0.2)


def serve(settings: Settings, secrets: Secrets) -> None:
    """Serve until a signal ends it."""
    app, parts = create_app(settings, secrets)
    log.info(event("serving", address=settings.listen_address, port=settings.port))
    config = uvicorn.Config(
        app,
        host=settings.listen_address,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        # Packing each token costs more than it saves, and 300 KiB of memory for each page.
        ws_per_message_deflate=False,
        forwarded_allow_ips=list(parts.settings.gateway_addresses),
        timeout_graceful_shutdown=LAST_SECONDS,
        ws_max_size=socket_bytes(settings.message_max_chars),
    )
    DrainingServer(config, parts).run()
