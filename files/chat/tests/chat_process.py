# The Socket.IO client has no type information.
# mypy: disable-error-code=import-untyped
"""The real application as a process of its own, and a person's page as a Socket.IO client."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import socketio
from free_port import free_port

CHAT = Path(__file__).parent.parent
START_SECONDS = 40.0


async def get(url: str, **headers: str) -> httpx.Response:
    """What the service answers."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


async def until_status(url: str, status: int, seconds: float = 5) -> httpx.Response:
    """Wait until the service answers with this status."""
    deadline = time.monotonic() + seconds
    while (response := await get(url)).status_code != status:
        assert time.monotonic() < deadline, f"{url} is {response.status_code}: {response.text}"
        await asyncio.sleep(0.05)
    return response


async def until(condition: Callable[[], object], seconds: float = 15) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def sign_session(secret: str) -> str:
    """The session of a check, signed by the code of llm_health."""
    code = runpy.run_path(str(CHAT.parents[1] / "plugins" / "module_utils" / "_chat_session.py"))
    return str(code["sign_session"](secret, 60))


class ChatProcess:
    """python -m gpufleet_chat with settings of its own; its log is in log."""

    def __init__(
        self,
        directory: Path,
        upstream_url: str,
        credentials: dict[str, str] | None = None,
        module: str = "gpufleet_chat",
        **settings: object,
    ) -> None:
        self._module = module
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "chat.log"
        self._directory = directory
        self._settings = {
            "upstream_url": upstream_url,
            "port": self.port,
            "title": "Fleet Chat",
            "state_directory": str(directory / "state"),
            "retry": {"attempts": 2, "first_delay_seconds": 0.05, "max_delay_seconds": 0.1},
            "monitor": {"interval_seconds": 0.2, "timeout_seconds": 1, "failures": 2},
            **settings,
        }
        self._credentials = credentials or {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start and wait until it lives."""
        path = self._directory / "settings.json"
        path.write_text(json.dumps(self._settings), encoding="utf-8")
        credentials = self._directory / "credentials"
        credentials.mkdir(mode=0o700, exist_ok=True)
        for name, content in self._credentials.items():
            (credentials / name).write_text(content, encoding="utf-8")
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                str(path),
                cwd=self._directory,
                env={
                    **os.environ,
                    "PYTHONPATH": f"{CHAT}:{CHAT / 'tests'}",
                    "CREDENTIALS_DIRECTORY": str(credentials),
                },
                stderr=log,
            )
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient(trust_env=False) as client:
            while True:
                if self._process.returncode is not None:
                    raise RuntimeError(f"the chat ended at start: {self.log.read_text()}")
                try:
                    if (await client.get(f"{self.url}/healthz")).status_code == 200:
                        return
                except httpx.HTTPError:
                    await asyncio.sleep(0.1)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def wait(self, seconds: float) -> int:
        """Wait for its end and return its status."""
        assert self._process is not None
        async with asyncio.timeout(seconds):
            return await self._process.wait()

    async def kill(self) -> None:
        """End it at once, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


Start = Callable[..., Awaitable[ChatProcess]]


class Page:
    """A person's open page: what they see of messages, notices and the state of the service."""

    def __init__(
        self,
        url: str,
        language: str = "en-US",
        path: str = "ws/socket.io",
        model: str | None = None,
        thread: str | None = None,
        **headers: str,
    ) -> None:
        self._url = url
        self._path = path
        self._model = model
        self._headers = {"Accept-Language": language, **headers}
        self._client = socketio.AsyncClient(reconnection=False)
        self._ended = asyncio.Event()
        self._seen = asyncio.Event()
        self.session_id = str(uuid.uuid4())
        self.messages: dict[str, dict[str, Any]] = {}
        self.states: list[dict[str, Any]] = []
        self.downloads: list[dict[str, Any]] = []
        self.actions: list[dict[str, Any]] = []
        self.toasts: list[dict[str, Any]] = []
        self.panel: list[dict[str, Any]] = []
        self.elements: list[dict[str, Any]] = []
        self.growth: list[int] = []
        # What the history has brought back, and the thread that this page is in.
        self.resumed: dict[str, Any] | None = None
        self.thread_id: str | None = thread
        self.not_found = False
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "new_message": self._upsert,
            "stream_start": self._upsert,
            "update_message": self._update,
            "delete_message": self._delete,
            "stream_token": self._token,
            "window_message": self._window_message,
            "action": self.actions.append,
            "remove_action": self._remove_action,
            "element": self.elements.append,
            "toast": self.toasts.append,
            "task_end": lambda _: self._ended.set(),
            "task_start": lambda _: self._ended.clear(),
        }
        for name, handler in handlers.items():
            self._client.on(name, self._noted(handler))
        self._client.on("chat_settings", self._settings)
        self._client.on("resume_thread", self._noted(self._resume))
        self._client.on("first_interaction", self._noted(self._begun))
        self._client.on("resume_thread_error", self._settle_not_found)

    async def open(self, question: str | None = None) -> None:
        """Connect as Chainlit's page does; again after a loss it is the same session.

        The question is one that was asked without a connection: the page sends it before all else.
        """
        await self.connect()
        if question is not None:
            await self.ask(question)
        await self.connected()

    async def connect(self) -> None:
        """Open the websocket; the chat is there once the page has said that it is connected."""
        await self._client.connect(
            self._url,
            socketio_path=self._path,
            # A copy: the client takes its cookies out.
            headers=dict(self._headers),
            auth={
                "sessionId": self.session_id,
                "clientType": "webapp",
                "chatProfile": self._model,
                "threadId": self.thread_id,
            },
            transports=["websocket"],
        )

    async def connected(self) -> None:
        """Say that the websocket is open."""
        await self._client.emit("connection_successful")
        # The hook for a new chat runs in a task of its own.
        await asyncio.sleep(0.2)

    async def close(self) -> None:
        """Lose the connection."""
        await self._client.disconnect()

    async def ask(
        self, question: str, message_id: str | None = None, files: Sequence[str] = ()
    ) -> str:
        """Send a question and return its id; does not wait. The files are ids of upload."""
        identifier = message_id or str(uuid.uuid4())
        message = {
            "id": identifier,
            "name": "user",
            "type": "user_message",
            "output": question,
            "createdAt": "2026-01-01T00:00:00Z",
        }
        self._ended.clear()
        self.messages[identifier] = message
        event = "edit_message" if message_id else "client_message"
        await self._client.emit(
            event, {"message": message, "fileReferences": [{"id": file} for file in files]}
        )
        return identifier

    async def upload(self, name: str, content: bytes, mime: str = "text/plain") -> httpx.Response:
        """Add a file to the next question."""
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(
                f"{self._url}/project/file",
                params={"session_id": self.session_id},
                files={"file": (name, content, mime)},
            )

    async def choose(self, **values: object) -> None:
        """Confirm values in the panel of settings."""
        await self._client.emit("chat_settings_change", values)

    async def stop(self) -> None:
        """Press stop."""
        await self._client.emit("stop")

    async def press(self, action: dict[str, Any]) -> None:
        """Press the button of an action."""
        self._ended.clear()
        async with httpx.AsyncClient(trust_env=False, headers=self._headers) as client:
            body = {"sessionId": self.session_id, "action": action}
            response = await client.post(f"{self._url}/project/action", json=body)
        response.raise_for_status()

    async def ended(self, seconds: float = 10) -> None:
        """Wait until the running question has its end."""
        async with asyncio.timeout(seconds):
            await self._ended.wait()

    @property
    def running(self) -> bool:
        """Whether the page offers to stop what runs."""
        return not self._ended.is_set()

    def texts(self) -> list[str]:
        """What the assistant and the service have written, in order."""
        return [
            str(message["output"])
            for message in self.messages.values()
            if message["type"] == "assistant_message"
        ]

    async def sees(self, text: str, seconds: float = 10) -> None:
        """Wait until a message contains the text."""
        await self.until(lambda: any(text in shown for shown in self.texts()), seconds)

    async def until(self, condition: Callable[[], object], seconds: float = 10) -> None:
        """Wait until the condition holds, tried after each event; raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._seen.clear()
                await self._seen.wait()

    def _noted(self, handler: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def handle(data: dict[str, Any]) -> None:
            handler(data)
            self._seen.set()

        return handle

    def _window_message(self, data: dict[str, Any]) -> None:
        (self.downloads if data["type"] == "download" else self.states).append(data)

    def _remove_action(self, action: dict[str, Any]) -> None:
        self.actions[:] = [shown for shown in self.actions if shown["id"] != action["id"]]

    def _resume(self, thread: dict[str, Any]) -> None:
        self.resumed = thread
        self.messages = {step["id"]: step for step in thread["steps"]}

    def _begun(self, interaction: dict[str, Any]) -> None:
        self.thread_id = interaction["thread_id"]

    def _settle_not_found(self, _text: str) -> None:
        self.not_found = True
        self._seen.set()

    def _settings(self, inputs: list[dict[str, Any]]) -> None:
        self.panel = inputs
        self._seen.set()

    def _upsert(self, message: dict[str, Any]) -> None:
        # As Chainlit's page does: what hangs from an unknown message is lost.
        parent = message.get("parentId")
        if parent and parent not in self.messages:
            return
        self.messages[message["id"]] = message
        self.growth.append(len(message["output"]))

    def _update(self, message: dict[str, Any]) -> None:
        # As Chainlit's page does: an update of an unknown message is lost.
        if message["id"] in self.messages:
            self._upsert(message)

    def _delete(self, message: dict[str, Any]) -> None:
        self.messages.pop(message["id"], None)

    def _token(self, data: dict[str, Any]) -> None:
        # A page that does not know the message drops the token, as Chainlit's does.
        if data["id"] in self.messages:
            self.messages[data["id"]]["output"] += data["token"]
            self.growth.append(len(self.messages[data["id"]]["output"]))
