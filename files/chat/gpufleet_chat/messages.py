"""The texts people read, in their language."""

from __future__ import annotations

import json
from pathlib import Path

LOCALE_DIRECTORY = Path(__file__).parent / "locale"
DEFAULT_LANGUAGE = "en"


class Messages:
    """All texts by language and key; the files are locale/LANGUAGE.json, flat objects."""

    def __init__(self, directory: Path = LOCALE_DIRECTORY) -> None:
        self._texts: dict[str, dict[str, str]] = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(directory.glob("*.json"))
        }

    @property
    def languages(self) -> list[str]:
        """The languages there is a file for."""
        return list(self._texts)

    def keys(self, language: str) -> set[str]:
        """The keys one language has."""
        return set(self._texts[language])

    def has(self, tag: str) -> bool:
        """Whether there are texts in the language of a browser's tag, and not only English."""
        return self.choose(tag).split("-")[0].lower() == tag.split("-")[0].lower()

    def choose(self, tag: str | None) -> str:
        """The language for a browser's tag such as zh-Hans-CN; English when there is none."""
        wanted = (tag or DEFAULT_LANGUAGE).lower()
        primary = wanted.split("-")[0]
        for language in self._texts:
            if language.lower() == wanted:
                return language
        for language in self._texts:
            if language.lower().split("-")[0] == primary:
                return language
        return DEFAULT_LANGUAGE

    def text(self, key: str, tag: str | None, **values: str) -> str:
        """One text with its {placeholders} filled; raises KeyError for an unknown key."""
        return self._texts[self.choose(tag)][key].format(**values)
