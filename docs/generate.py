"""Write what is generated: the README of every role, from its argument specs.

`generate.py` writes the files; `generate.py --check` fails when one is not current.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
MARKUP = re.compile(r"\b([BCIMOV])\(([^)]+)\)")


def plain(text: str | list[str]) -> str:
    """Description as Markdown: Ansible's `C(code)` and its kin become code spans."""
    joined = " ".join(text) if isinstance(text, list) else text
    return MARKUP.sub(lambda match: f"`{match.group(2)}`", joined).replace("|", "\\|")


def default_of(option: dict[str, Any]) -> str:
    """Default as code, or a word where there is none."""
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    value = option["default"]
    shown = (
        value
        if isinstance(value, str) and value
        else yaml.safe_dump(value, default_flow_style=True, width=10_000)
        .strip()
        .removesuffix("...")
        .strip()
    )
    return "`` " + shown.replace("|", "\\|") + " ``"


def table(options: dict[str, Any]) -> list[str]:
    """Markdown table of options, their own options in rows of their own."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]

    def add(prefix: str, entries: dict[str, Any]) -> None:
        for name, option in entries.items():
            kind = option.get("type", "str")
            choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
            what = plain(option["description"]) + (f" One of {choices}." if choices else "")
            rows.append(f"| `{prefix}{name}` ({kind}) | {default_of(option)} | {what} |")
            item = "[]" if kind == "list" else ""
            add(f"{prefix}{name}{item}.", option.get("options", {}))

    add("", options)
    return rows


def role_readme(role: Path) -> str:
    """README of one role."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    main = specs["main"]
    lines = [
        "<!-- Generated from meta/argument_specs.yml by docs/generate.py: change it there. -->",
        f"# Role `{role.name}`",
        "",
        main["short_description"] + ".",
        "",
    ]
    for paragraph in main["description"]:
        lines += [plain(paragraph), ""]
    if len(specs) > 1:
        lines += ["## Entry points", ""]
        lines += [f"- `{name}`: {spec['short_description']}." for name, spec in specs.items()]
        lines.append("")
    lines += ["## Variables", "", *table(main["options"]), ""]
    return "\n".join(lines)


def main(check: bool) -> int:
    """Write or compare; the number of files that are not current when comparing."""
    stale = 0
    for role in sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml")):
        readme, text = role / "README.md", role_readme(role)
        if not check:
            readme.write_text(text)
        elif not readme.is_file() or readme.read_text() != text:
            print(f"{readme.relative_to(ROOT)} is not current: run 'make docs'")
            stale += 1
    return stale


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
