"""The reference of the modules, from the documentation in each."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import yaml
from generator.markdown import code, option_table, plain


def blocks_of(module: Path) -> dict[str, str]:
    """Text of DOCUMENTATION, EXAMPLES and RETURN, by these names.

    Raises KeyError, naming the block, when the module lacks one.
    """
    found = {
        statement.targets[0].id: statement.value.value
        for statement in ast.parse(module.read_text()).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    }
    return {name: found[name] for name in ("DOCUMENTATION", "EXAMPLES", "RETURN")}


def attribute_table(attributes: dict[str, Any]) -> list[str]:
    """Markdown table of what the module supports, such as check mode."""
    return [
        "| attribute | support | what it does |",
        "|---|---|---|",
        *(
            f"| `{name}` | {attribute['support']} | {plain(attribute['description'])} |"
            for name, attribute in attributes.items()
        ),
    ]


def return_table(values: dict[str, Any]) -> list[str]:
    """Markdown table of returned values, those within in rows of their own."""
    rows = ["| value | returned | what it is |", "|---|---|---|"]

    def add(prefix: str, entries: dict[str, Any]) -> None:
        for name, value in entries.items():
            sample = f" For example {code(value['sample'])}." if "sample" in value else ""
            returned = plain(value.get("returned", ""))
            what = plain(value["description"]) + sample
            rows.append(f"| `{prefix}{name}` ({value['type']}) | {returned} | {what} |")
            within = "[]." if value["type"] == "list" else "."
            add(f"{prefix}{name}{within}", value.get("contains", {}))

    add("", values)
    return rows


def section(module: Path) -> list[str]:
    """Lines of one module."""
    blocks = blocks_of(module)
    about = yaml.safe_load(blocks["DOCUMENTATION"])
    lines = [f"## `gpufleet.llm.{module.stem}`", "", about["short_description"] + ".", ""]
    for paragraph in about["description"]:
        lines += [plain(paragraph), ""]
    lines += [*option_table(about["options"], "option"), ""]
    lines += [*attribute_table(about["attributes"]), ""]
    lines += ["### Examples", "", "```yaml", blocks["EXAMPLES"].strip(), "```", ""]
    lines += ["### Returned", "", *return_table(yaml.safe_load(blocks["RETURN"])), ""]
    return lines


def pages(root: Path) -> dict[Path, str]:
    """Path and text of the reference."""
    lines = [
        "<!-- Generated from plugins/modules by docs/generate.py: change it there. -->",
        "# Modules",
        "",
        "`ansible-doc gpufleet.llm.NAME` shows the same at a prompt.",
        "",
    ]
    for module in sorted((root / "plugins" / "modules").glob("*.py")):
        lines += section(module)
    return {root / "docs" / "modules.md": "\n".join(lines)}
