"""What a person may choose for their chat, within what the operator allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpufleet_chat.settings import Settings

MAX_SYSTEM_PROMPT_CHARACTERS = 20_000
MAX_TEMPERATURE = 2.0


class ChoiceError(Exception):
    """A value cannot be taken; the message is the key of the text that says why."""


@dataclass(frozen=True)
class Choices:
    """How questions are asked.

    A temperature of None is the model's own; think switches the thinking of models that have it.
    """

    system_prompt: str
    temperature: float | None
    max_tokens: int
    think: bool = True

    @classmethod
    def default(cls, settings: Settings) -> Choices:
        """What the operator has set."""
        return cls(settings.system_prompt or "", settings.temperature, settings.max_tokens)

    def changed(self, values: Mapping[str, object], settings: Settings) -> Choices:
        """These choices with the named ones replaced; raises ChoiceError and changes none.

        A page sends the values, so they may be anything.
        """
        chosen = self
        if "system_prompt" in values:
            chosen = replace(chosen, system_prompt=_system_prompt(values["system_prompt"]))
        if "temperature" in values:
            chosen = replace(chosen, temperature=_temperature(values["temperature"]))
        if "max_tokens" in values:
            length = _max_tokens(values["max_tokens"], settings.max_tokens)
            chosen = replace(chosen, max_tokens=length)
        if "think" in values:
            chosen = replace(chosen, think=values["think"] is not False)
        return chosen


def _system_prompt(value: object) -> str:
    text = "" if value is None else value
    if not isinstance(text, str) or len(text) > MAX_SYSTEM_PROMPT_CHARACTERS:
        raise ChoiceError("settings.refused.system_prompt")
    return text.strip()


def _temperature(value: object) -> float | None:
    if value is None or value == "":
        return None
    try:
        # Many people write a decimal comma.
        number = float(str(value).strip().replace(",", "."))
    except ValueError:
        raise ChoiceError("settings.refused.temperature") from None
    if not 0 <= number <= MAX_TEMPERATURE:
        raise ChoiceError("settings.refused.temperature")
    return number


def _max_tokens(value: object, most: int) -> int:
    number = value if isinstance(value, (int, float)) else math.nan
    # Also false for what is not a number.
    if not 1 <= number <= most:
        raise ChoiceError("settings.refused.max_tokens")
    return int(number)
