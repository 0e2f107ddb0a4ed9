"""What the roles and playbooks of a checkout define and use, read from their sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, nodes

# Values of these keys are expressions without braces.
EXPRESSIONS = {"when", "that", "until", "changed_when", "failed_when", "break_when"}
TASK_LISTS = ("block", "rescue", "always", "pre_tasks", "tasks", "post_tasks", "handlers")
JINJA = Environment(autoescape=True)


def load(path: Path) -> Any:
    """Content of a YAML file; an empty dictionary where there is none."""
    return (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}


def names_in(template: str) -> set[str]:
    """Variables that a template reads, without those that it sets itself."""
    names = list(JINJA.parse(template).find_all(nodes.Name))
    own = {name.name for name in names if name.ctx != "load"}
    return {name.name for name in names} - own


def used_in(content: object, key: str = "") -> set[str]:
    """Variables that the expressions in YAML content read."""
    if isinstance(content, dict):
        return set().union(*(used_in(value, name) for name, value in content.items()))
    if isinstance(content, list):
        return set().union(*(used_in(value, key) for value in content))
    if isinstance(content, str):
        return names_in(f"{{{{ ({content}) }}}}" if key in EXPRESSIONS else content)
    return set()


def defined_in(content: object) -> set[str]:
    """Variables that tasks set: registered, facts, `vars`, and those of loops."""
    found: set[str] = set()
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("register", "loop_var", "index_var"):
                found.add(value)
            elif key == "vars" or key.endswith("set_fact"):
                found |= set(value)
            found |= defined_in(value)
    elif isinstance(content, list):
        found = found.union(*map(defined_in, content))
    return found


def tasks_in(content: object) -> Iterator[dict[str, Any]]:
    """Every task of a task file or a playbook, with the blocks and what is in them."""
    for entry in content if isinstance(content, list) else []:
        if "hosts" not in entry:
            yield entry
        for key in TASK_LISTS:
            yield from tasks_in(entry.get(key))


@dataclass(frozen=True)
class Role:
    """One role of the checkout."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the role."""
        return self.path.name

    def has(self, variable: str) -> bool:
        """Whether the variable is the role's own by its name."""
        return variable.lstrip("_").startswith(f"{self.name}_")

    def is_private(self, variable: str) -> bool:
        """Whether the variable is the role's own and nobody else's."""
        return variable.startswith(f"__{self.name}_")

    @property
    def defaults(self) -> dict[str, Any]:
        """Default by variable."""
        return dict(load(self.path / "defaults" / "main.yml"))

    @property
    def specs(self) -> dict[str, Any]:
        """Argument specs by entry point."""
        specs = load(self.path / "meta" / "argument_specs.yml")
        return dict(specs.get("argument_specs", {}))

    @property
    def options(self) -> set[str]:
        """Variables that the argument specs name."""
        return set().union(*(spec.get("options", {}) for spec in self.specs.values()))

    @property
    def templates(self) -> list[Path]:
        """Files that are templates."""
        return sorted(path for path in self.path.glob("templates/**/*") if path.is_file())

    @property
    def contents(self) -> list[Any]:
        """Contents of tasks and handlers."""
        found = [*self.path.glob("tasks/**/*.yml"), *self.path.glob("handlers/*.yml")]
        return [load(path) for path in sorted(found)]

    @property
    def described(self) -> set[str]:
        """Words of the descriptions of the entry points, such as the names of results."""
        texts = " ".join(str(spec.get("description")) for spec in self.specs.values())
        return set(re.findall(r"\w+", texts))

    @property
    def variables(self) -> dict[str, Any]:
        """Value of what `vars/` defines, by variable."""
        files = sorted(self.path.glob("vars/*.yml"))
        return {name: value for path in files for name, value in load(path).items()}

    @property
    def defined(self) -> set[str]:
        """Variables that the role defines in any way."""
        return {*self.defaults, *self.options, *self.variables, *defined_in(self.contents)}

    @property
    def used(self) -> set[str]:
        """Variables that the role reads."""
        in_templates = (names_in(path.read_text()) for path in self.templates)
        return used_in([self.defaults, self.variables, self.contents]).union(*in_templates)


@dataclass(frozen=True)
class Sources:
    """Roles, playbooks and plugins of a checkout."""

    root: Path

    @property
    def roles(self) -> list[Role]:
        """The roles by name."""
        return [Role(path) for path in sorted((self.root / "roles").iterdir()) if path.is_dir()]

    @property
    def playbooks(self) -> list[Path]:
        """The playbooks that users run."""
        return sorted((self.root / "playbooks").glob("*.yml"))

    @property
    def task_files(self) -> list[Path]:
        """Every file with tasks, those of the tests too."""
        places = ("roles/*/tasks/**/*.yml", "roles/*/handlers/*.yml", "molecule/**/*.yml")
        found = (path for place in places for path in self.root.glob(place))
        return sorted([*self.playbooks, *found])

    @property
    def used(self) -> set[str]:
        """Variables that roles and playbooks read."""
        in_playbooks = used_in([load(path) for path in self.playbooks])
        return in_playbooks.union(*(role.used for role in self.roles))

    @property
    def defined(self) -> set[str]:
        """Variables that roles and playbooks define."""
        in_playbooks = defined_in([load(path) for path in self.playbooks])
        return in_playbooks.union(*(role.defined for role in self.roles))

    @property
    def quoted(self) -> set[str]:
        """Words that plugins quote, which may be names of variables."""
        plugins = (path.read_text() for path in self.root.glob("plugins/**/*.py"))
        return {word for text in plugins for word in re.findall(r"[\"'](\w+)[\"']", text)}


# A check returns what is wrong in a checkout, one text each.
Check = Callable[[Sources], list[str]]
