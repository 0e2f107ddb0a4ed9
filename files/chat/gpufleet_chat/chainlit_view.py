# mypy: untyped-calls-exclude=chainlit
"""Shows turns in Chainlit's page."""

from __future__ import annotations

import chainlit as cl
from chainlit.server import sio
from chainlit.session import WebsocketSession
from chainlit.utils import utc_now

from gpufleet_chat.messages import Messages
from gpufleet_chat.turn import Failure, Waiting
from gpufleet_chat.upstream import Delta

RETRY_ACTION = "retry"


class TurnView:
    """The display of one turn: a bubble for the answer and one notice below it."""

    def __init__(self, messages: Messages, language: str, question_id: str) -> None:
        self._messages = messages
        self._language = language
        self._question_id = question_id
        self._answer = cl.Message(content="")
        self._thinking: cl.Step | None = None
        self._notice: cl.Message | None = None
        self._waiting: tuple[Waiting, int] | None = None

    async def show(self, delta: Delta) -> None:
        """Add a piece to the answer, or to the thinking before it."""
        if delta.reasoning:
            await self._think(delta.text)
            return
        await self._end_thinking()
        if self._answer.created_at is None:
            self._answer.created_at = utc_now()
        await self._answer.stream_token(delta.text)

    async def restart(self) -> None:
        """Clear the answer: it begins again."""
        await self._answer.remove()
        self._answer = cl.Message(content="")

    async def wait(self, waiting: Waiting, ahead: int = 0) -> None:
        """Say why nothing comes, how many questions come first; again it changes nothing."""
        if (waiting, ahead) == self._waiting:
            return
        if self._waiting is None or self._notice is None:
            await self.resume()
            await self._say(waiting.value, ahead=str(ahead))
        else:
            # In place: a notice that jumps with each step forward is no calm sight.
            self._notice.content = self._text(waiting.value, ahead=str(ahead))
            await self._notice.update()
        self._waiting = (waiting, ahead)

    async def resume(self) -> None:
        """Take back the notice."""
        self._waiting = None
        if self._notice is not None:
            notice, self._notice = self._notice, None
            await notice.remove_actions()
            await notice.remove()

    async def finish(self) -> None:
        """Close the answer as it stands."""
        await self.resume()
        await self._end_thinking()
        if self._answer.content:
            await self._answer.update()

    async def stopped(self) -> None:
        """Close the answer where a person stopped it."""
        await self.finish()
        if not self._answer.content:
            await self._say("stopped")

    async def fail(self, failure: Failure, reference: str, retry: bool, seconds: int = 0) -> None:
        """Close the answer and say in plain words what happened, and how long to wait."""
        await self.finish()
        await self._say(failure.value, retry, reference=reference, seconds=str(seconds))

    async def resync(self, session: WebsocketSession) -> None:
        """Send all that is shown once more, to a page that may have missed some of it."""
        shown: list[cl.Message | cl.Step] = [self._answer] if self._answer.content else []
        if self._thinking is not None:
            shown.insert(0, self._thinking)
        if self._notice is not None:
            shown.append(self._notice)
        for item in shown:
            await sio.emit("new_message", item.to_dict(), to=session.socket_id)

    async def _say(self, key: str, retry: bool = False, **values: str) -> None:
        actions = []
        if retry:
            actions = [cl.Action(name=RETRY_ACTION, label=self._text("retry"), payload={})]
        self._notice = cl.Message(content=self._text(key, **values), actions=actions)
        await self._notice.send()

    def _text(self, key: str, **values: str) -> str:
        return self._messages.text(key, self._language, **values)

    async def _think(self, text: str) -> None:
        if self._thinking is None:
            self._thinking = cl.Step(
                name=self._messages.text("thinking", self._language),
                type="llm",
                parent_id=self._question_id,
            )
            self._thinking.start = utc_now()
            await self._thinking.send()
        await self._thinking.stream_token(text)

    async def _end_thinking(self) -> None:
        if self._thinking is not None and self._thinking.end is None:
            self._thinking.end = utc_now()
            await self._thinking.update()
