# mypy: untyped-calls-exclude=chainlit
"""The panel in which a person chooses how their questions are asked."""

from __future__ import annotations

import chainlit as cl
from chainlit.input_widget import InputWidget, Slider, Switch, TextInput

from gpufleet_chat.choices import Choices
from gpufleet_chat.messages import Messages
from gpufleet_chat.settings import Settings


def panel(
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
