# mypy: untyped-calls-exclude=chainlit
"""Shows turns in Chainlit's page."""

from __future__ import annotations

import time
from typing import Any

import chainlit as cl
from chainlit.server import sio
from chainlit.session import WebsocketSession
from chainlit.step import StepDict
from chainlit.utils import utc_now

from gpufleet_chat.chainlit_history import KEPT
from gpufleet_chat.chainlit_tokens import send_token
from gpufleet_chat.messages import Messages
from gpufleet_chat.turn import Failure, Waiting
from gpufleet_chat.upstream import Delta

RETRY_ACTION = "retry"
REGENERATE_ACTION = "regenerate"
EXPORT_ACTION = "export"
# The formats and their icons among those of Lucide, which the page carries.
EXPORT_FORMATS = {"markdown": "file-down", "json": "braces"}


class TurnView:
    """The display of one turn: a bubble for the answer and one notice below it."""

    def __init__(
        self, messages: Messages, language: str, question_id: str, run: StepDict | None = None
    ) -> None:
        self._messages = messages
        self._language = language
        self.question_id = question_id
        # Only within the run of its question can an answer be copied, and follow the thinking.
        self.run = run
        self._run_id = str(run["id"]) if run else None
        self._answer = self._new_answer()
        # The ids of what was shown and taken away.
        self._gone: list[str] = []
        self._thinking: cl.Step | None = None
        self._forgot: cl.Message | None = None
        self._notice: cl.Message | None = None
        self._waiting: tuple[Waiting, int] | None = None
        # Of the monotonic clock; beside what grows.
        self.changed_at = time.monotonic()

    @classmethod
    def restored(
        cls, messages: Messages, language: str, question_id: str, steps: list[StepDict]
    ) -> TurnView:
        """The display of a turn as the history has kept it; steps are those of the thread."""
        kept = {
            str(metadata["part"]): step
            for step in steps
            if (metadata := step.get("metadata") or {}).get(KEPT) == question_id
            and "part" in metadata
        }
        answer, thinking, notice = (kept.get(part) for part in ("answer", "thinking", "notice"))
        shown = answer or thinking
        run_id = shown.get("parentId") if shown else None
        view = cls(messages, language, question_id, _run(steps, question_id, run_id))
        # The page has it from the history.
        view.changed_at = 0.0
        if answer is not None:
            view._answer = cl.Message.from_dict(answer)
        if notice is not None:
            view._notice = cl.Message.from_dict(notice)
        if thinking is not None:
            view._thinking = cl.Step(
                thinking["name"], "llm", thinking["id"], thinking.get("parentId")
            )
            view._thinking.output = thinking["output"]
            view._thinking.metadata = dict(thinking["metadata"])
            view._thinking.start, view._thinking.end = thinking.get("start"), thinking.get("end")
        return view

    @property
    def answer(self) -> str:
        """What is shown of the answer."""
        return self._answer.content

    async def say_elsewhere(self) -> StepDict:
        """Say that another tab waits for the answer; returns what is shown with the thread."""
        text = self._text("elsewhere")
        self._notice = cl.Message(content=text, parent_id=self._run_id, created_at=utc_now())
        # Those from before would ask the question twice.
        await self._send_actions(self._notice)
        return self._notice.to_dict()

    async def offer_again(self) -> StepDict | None:
        """Show the buttons of a turn that a page has opened anew.

        Returns what belongs below a question without an answer, to be shown with the thread.
        """
        if self._answer.content:
            self._answer.actions = [self._regenerate(), *self._exports()]
            await self._send_actions(self._answer)
            return None
        # Not a retry: what it had been thinking goes as well.
        again = self._action(REGENERATE_ACTION, label=self._text("retry"))
        unanswered = self._notice is None
        if self._notice is None:
            text = self._text("unanswered")
            self._notice = cl.Message(content=text, parent_id=self._run_id, created_at=utc_now())
        self._notice.actions = [again, *self._exports()]
        await self._send_actions(self._notice)
        return self._notice.to_dict() if unanswered else None

    async def show(self, delta: Delta) -> None:
        """Add a piece to the answer, or to the thinking before it."""
        if delta.reasoning:
            await self._think(delta.text)
            return
        await self._end_thinking()
        if self._answer.streaming:
            self._answer.content += delta.text
            send_token(cl.context.session, self._answer.id, delta.text)
            return
        self._answer.created_at = self._answer.created_at or utc_now()
        await self._answer.stream_token(delta.text)

    async def forgot(self) -> None:
        """Say that the beginning of the conversation does not fit into the model's context."""
        if self._forgot is None:
            self._forgot = cl.Message(content=self._text("forgot"), parent_id=self._run_id)
            await self._forgot.send()

    async def restart(self) -> None:
        """Clear the answer and the thinking before it: they begin again."""
        if self._thinking is not None:
            thinking, self._thinking = self._thinking, None
            await self._remove(thinking)
        await self._remove(self._answer)
        self._answer = self._new_answer()

    async def wait(self, waiting: Waiting, ahead: int = 0) -> None:
        """Say why nothing comes, how many questions come first; again it changes nothing."""
        if (waiting, ahead) == self._waiting:
            return
        text = self._text(waiting.value, ahead=str(ahead))
        if self._waiting is None or self._notice is None:
            await self.resume()
            await self._say(text)
        else:
            # In place: a notice that jumps with each step forward is no calm sight.
            self._notice.content = text
            await self._notice.update()
        self._waiting = (waiting, ahead)

    async def resume(self) -> None:
        """Take back the notice."""
        self._waiting = None
        if self._notice is not None:
            notice, self._notice = self._notice, None
            await notice.remove_actions()
            await self._remove(notice)

    async def finish(self, length_reached: bool = False) -> None:
        """Close the answer as it stands, and say so when it is empty or as long as it may be."""
        actions = [self._regenerate(), *self._exports()]
        await self._close(actions)
        key = self._closing_key(length_reached)
        if key is not None:
            # After the run, for only the last message of one can be copied: that is the answer.
            below = [] if self._answer.content else actions
            await self._say(self._text(key), below, in_run=False, kept=length_reached)

    async def stopped(self) -> None:
        """Close the answer where a person stopped it."""
        actions = [self._regenerate(), *self._exports()]
        await self._close(actions)
        if not self._answer.content:
            await self._say(self._text("stopped"), actions)

    async def fail(self, failure: Failure, reference: str, retry: bool, seconds: int = 0) -> None:
        """Close the answer and say in plain words what happened, and how long to wait."""
        await self._close([])
        again = [self._action(RETRY_ACTION, label=self._text("retry"))] if retry else []
        text = self._text(failure.value, reference=reference, seconds=str(seconds))
        # Without it, half an answer would later pass for a whole one.
        await self._say(text, [*again, *self._exports()], kept=bool(self._answer.content))

    async def refuse(self, text: str) -> None:
        """Say why the question is not even asked."""
        await self._say(text)

    async def withdraw_actions(self) -> None:
        """Take the buttons away, for another turn is the last one now."""
        self.changed_at = time.monotonic()
        for message in (self._answer, self._notice):
            if message is not None:
                await message.remove_actions()
                message.actions = []

    async def replace(self, earlier: TurnView) -> None:
        """Take all of another turn away: its question is asked anew, or stood below that."""
        await earlier.withdraw_actions()
        if earlier._thinking is not None:
            await earlier._remove(earlier._thinking)
        for message in earlier._shown_messages():
            await earlier._remove(message)
        self._gone += earlier._gone

    async def resync(self, session: WebsocketSession) -> None:
        """Send all that is shown once more, to a page that may have missed some of it."""
        for identifier in self._gone:
            await sio.emit("delete_message", {"id": identifier}, to=session.socket_id)
        if self.run is not None:
            # A page drops what hangs from a run that it does not know. Of one that it knows it may
            # know the end.
            run = {key: value for key, value in self.run.items() if key != "end"}
            await sio.emit("new_message", run, to=session.socket_id)
        if self._thinking is not None:
            await sio.emit("new_message", self._thinking.to_dict(), to=session.socket_id)
        for message in self._shown_messages():
            await sio.emit("new_message", message.to_dict(), to=session.socket_id)
        for action in self._all_actions():
            # Taken away meanwhile; and a page shows twice what it is sent twice.
            await sio.emit("remove_action", action.to_dict(), to=session.socket_id)
        for message in self._shown_messages():
            for action in message.actions:
                await sio.emit("action", action.to_dict(), to=session.socket_id)

    def _new_answer(self) -> cl.Message:
        return cl.Message(content="", parent_id=self._run_id, metadata=self._kept("answer"))

    async def _remove(self, shown: cl.Message | cl.Step) -> None:
        self._gone.append(str(shown.id))
        await shown.remove()  # type: ignore[no-untyped-call]

    def _shown_messages(self) -> list[cl.Message]:
        answer = self._answer if self._answer.content else None
        messages = (self._forgot, answer, self._notice)
        return [message for message in messages if message is not None]

    def _text(self, key: str, **values: str) -> str:
        return self._messages.text(key, self._language, **values)

    def _closing_key(self, length_reached: bool) -> str | None:
        """The text below a finished answer; none where it speaks for itself."""
        # Some models write an empty line before they end.
        empty = not self._answer.content.strip()
        if length_reached:
            return "length.thinking" if empty else "length.answer"
        return "empty.answer" if empty else None

    def _regenerate(self) -> cl.Action:
        tooltip = self._text("regenerate")
        return self._action(REGENERATE_ACTION, tooltip=tooltip, icon="refresh-cw")

    def _exports(self) -> list[cl.Action]:
        return [
            self._action(EXPORT_ACTION, name, tooltip=self._text(f"export.{name}"), icon=icon)
            for name, icon in EXPORT_FORMATS.items()
        ]

    def _action(self, name: str, form: str = "", **shown: str) -> cl.Action:
        # The same id for the same button, by which a page finds those that it has from before.
        identifier = "-".join((self.question_id, name, form))
        payload = {"question": self.question_id, "format": form}
        return cl.Action(name=name, id=identifier, payload=payload, **shown)

    def _all_actions(self) -> list[cl.Action]:
        return [self._action(RETRY_ACTION), self._regenerate(), *self._exports()]

    async def _send_actions(self, message: cl.Message) -> None:
        for action in self._all_actions():
            # A page that was open before a restart has them still.
            await action.remove()
        for action in message.actions:
            await action.send(for_id=message.id)

    async def _close(self, actions: list[cl.Action]) -> None:
        await self.resume()
        await self._end_thinking()
        self.changed_at = time.monotonic()
        if self._answer.content:
            self._answer.actions = actions
            await self._answer.update()

    def _kept(self, part: str) -> dict[str, Any]:
        return {KEPT: self.question_id, "part": part}

    async def _say(
        self,
        text: str,
        actions: list[cl.Action] | None = None,
        in_run: bool = True,
        kept: bool = False,
    ) -> None:
        self.changed_at = time.monotonic()
        metadata = self._kept("notice") if kept else None
        self._notice = cl.Message(content=text, actions=actions, metadata=metadata)
        # Chainlit would take the step that runs here, which a retry does not have.
        self._notice.parent_id = self._run_id if in_run else None
        await self._notice.send()

    async def _think(self, text: str) -> None:
        if self._thinking is None:
            self._thinking = cl.Step(
                name=self._text("thinking"), type="llm", parent_id=self._run_id
            )
            self._thinking.metadata = self._kept("thinking")
            self._thinking.start = utc_now()
            await self._thinking.send()
        if self._thinking.streaming:
            self._thinking.output += text
            send_token(cl.context.session, self._thinking.id, text)
            return
        await self._thinking.stream_token(text)

    async def _end_thinking(self) -> None:
        if self._thinking is not None and self._thinking.end is None:
            self._thinking.end = utc_now()
            self._thinking.name = self._text("thought")
            await self._thinking.update()


def _run(steps: list[StepDict], question_id: str, run_id: str | None) -> StepDict | None:
    """The run of this id; without one, the last run of the question."""
    key, value = ("parentId", question_id) if run_id is None else ("id", run_id)
    runs = [step for step in steps if step["type"] == "run" and step.get(key) == value]
    return runs[-1] if runs else None
