# mypy: untyped-calls-exclude=chainlit
"""The panel in which a person chooses how their questions are asked."""

from __future__ import annotations

import chainlit as cl
from chainlit.input_widget import InputWidget, Slider, Switch, TextInput
from chainlit.session import WebsocketSession

from gpufleet_chat import services
from gpufleet_chat.chainlit_chats import Chat
from gpufleet_chat.choices import Choices
from gpufleet_chat.messages import Messages
from gpufleet_chat.settings import Settings

_parts = services.current()


async def offer_settings(session: WebsocketSession, chat: Chat) -> None:
    """Show the panel with what holds for this chat, where the operator offers it."""
    if not _parts.settings.settings_panel:
        return
    chat.offers_thinking = _parts.upstream.thinks(session.chat_profile)
    await _panel(
        chat.choices, _parts.settings, _parts.messages, session.language, chat.offers_thinking
    ).send()


async def offer_thinking(session: WebsocketSession, chat: Chat) -> None:
    """A model may just have been seen thinking: now it can be switched off."""
    if not chat.offers_thinking and _parts.upstream.thinks(session.chat_profile):
        await offer_settings(session, chat)


def _panel(
    choices: Choices, settings: Settings, messages: Messages, language: str, thinks: bool
) -> cl.ChatSettings:
    """The panel with these choices; thinking can be switched where the model thinks."""

    def label(name: str) -> str:
        return messages.text(f"settings.{name}.label", language)

    def description(name: str) -> str:
        return messages.text(f"settings.{name}.description", language)

    inputs: list[InputWidget] = [
        TextInput(
            id="system_prompt",
            label=label("system_prompt"),
            description=description("system_prompt"),
            initial=choices.system_prompt,
            multiline=True,
        ),
        # A slider or a number cannot be empty, which stands for the model's own.
        TextInput(
            id="temperature",
            label=label("temperature"),
            description=description("temperature"),
            initial="" if choices.temperature is None else f"{choices.temperature:g}",
        ),
        Slider(
            id="max_tokens",
            label=label("max_tokens"),
            description=description("max_tokens"),
            initial=choices.max_tokens,
            min=1,
            max=settings.max_tokens,
        ),
    ]
    if thinks:
        inputs.append(
            Switch(
                id="think",
                label=label("think"),
                description=description("think"),
                initial=choices.think,
            )
        )
    return cl.ChatSettings(inputs)
