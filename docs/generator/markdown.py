"""From Ansible's way of documenting options to Markdown."""

from __future__ import annotations

import re
from typing import Any

import yaml

# Ansible's markup of code, options, return values and their kin.
MARKUP = re.compile(r"\b(?:[BCEIMOV]|RV)\(([^)]+)\)")


def plain(text: str | list[str]) -> str:
    """Description as Markdown: Ansible's `C(code)` and its kin become code spans."""
    joined = " ".join(text) if isinstance(text, list) else text
    return MARKUP.sub(r"`\1`", joined).replace("|", "\\|")


def code(value: object) -> str:
    """Value as code, the way it is written in YAML."""
    shown = (
        value
        if isinstance(value, str) and value
        else yaml.safe_dump(value, default_flow_style=True, width=10_000)
        .strip()
        .removesuffix("...")
        .strip()
    )
    return "`` " + shown.replace("|", "\\|") + " ``"


def default_of(option: dict[str, Any]) -> str:
    """Default as code, or a word where there is none."""
    if option.get("required"):
        return "**required**"
    return code(option["default"]) if "default" in option else ""


def option_table(options: dict[str, Any], title: str) -> list[str]:
    """Markdown table of options, their own options in rows of their own."""
    rows = [f"| {title} | default | what it is |", "|---|---|---|"]

    def add(prefix: str, entries: dict[str, Any]) -> None:
        for name, option in entries.items():
            kind = option.get("type", "str")
            choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
            what = plain(option["description"]) + (f" One of {choices}." if choices else "")
            rows.append(f"| `{prefix}{name}` ({kind}) | {default_of(option)} | {what} |")
            within = option.get("options", option.get("suboptions", {}))
            add(f"{prefix}{name}{'[].' if kind == 'list' else '.'}", within)

    add("", options)
    return rows
