"""The README of every role, from its argument specs."""

from __future__ import annotations

from pathlib import Path

import yaml
from generator.markdown import option_table, plain


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
    lines += ["## Variables", "", *option_table(main["options"], "variable"), ""]
    return "\n".join(lines)


def pages(root: Path) -> dict[Path, str]:
    """Path and text of every role's README."""
    roles = sorted(path.parent.parent for path in root.glob("roles/*/meta/argument_specs.yml"))
    return {role / "README.md": role_readme(role) for role in roles}
