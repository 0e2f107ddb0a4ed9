"""What no task may do, and what every template must, beyond the rules of ansible-lint."""

from __future__ import annotations

import re

import pytest

from tests.unit.collection.conftest import Write
from tests.unit.collection.sources import Check, Sources, load, tasks_in

# The modules by their last name.
SHELL = ("shell", "raw")
ROLES = ("include_role", "import_role")
DATES = re.compile(r"date_time|strftime|\bnow\(")


def hidden_failures(sources: Sources) -> list[str]:
    """Tasks that hide a failure or a change, or leave it to a shell."""
    found = []
    for path in sources.task_files:
        for task in tasks_in(load(path)):
            modules = {key.rpartition(".")[2] for key in task}
            hides = (
                modules.intersection(SHELL)
                or task.get("ignore_errors")
                or task.get("changed_when") is True
                or task.get("failed_when") is False
            )
            if hides:
                found.append(f"{path.relative_to(sources.root)}: {task.get('name')}")
    return found


def unvalidated_arguments(sources: Sources) -> list[str]:
    """Roles that are called in a way that skips the validation of their arguments."""
    specs = {role.name: role.specs for role in sources.roles}
    found = []
    for path in sources.task_files:
        for task in tasks_in(load(path)):
            for call in (task[key] for key in task if key.rpartition(".")[2] in ROLES):
                role, entry_point = call["name"].rpartition(".")[2], call.get("tasks_from", "main")
                # The name may be known only when it runs; then some role must have it.
                own = [specs[role]] if role in specs else specs.values()
                if not any(entry_point in known for known in own):
                    found.append(f"{path.relative_to(sources.root)}: {task.get('name')}")
    return found


def unmanaged_templates(sources: Sources) -> list[str]:
    """Templates that do not begin by saying who manages the file, or that hold a date."""
    found = []
    for path in (path for role in sources.roles for path in role.templates):
        text = path.read_text()
        written = (line for line in text.splitlines() if not line.startswith("{%"))
        if "ansible_managed" not in next(written, "") or DATES.search(text):
            found.append(str(path.relative_to(sources.root)))
    return found


CHECKS: list[tuple[Check, dict[str, str], list[str]]] = [
    (
        hidden_failures,
        {
            "tasks/main.yml": "- name: a\n  block:\n    - {name: b, ansible.builtin.shell: ls}\n"
            "- {name: c, command: a, ignore_errors: true}\n"
            "- {name: d, command: a, changed_when: true}\n"
            "- {name: e, command: a, failed_when: false}\n"
            "- {name: f, user: {name: a, shell: /bin/sh}, changed_when: false}\n",
            "handlers/main.yml": "- {name: g, ansible.builtin.raw: ls}\n",
        },
        [
            "roles/web/handlers/main.yml: g",
            *(f"roles/web/tasks/main.yml: {name}" for name in "bcde"),
        ],
    ),
    (
        unvalidated_arguments,
        {
            "meta/argument_specs.yml": "argument_specs: {main: {}, stage: {}}",
            "tasks/main.yml": "- {name: a, include_role: {name: x.y.web, tasks_from: stage.yml}}\n"
            "- {name: b, include_role: {name: x.y.web}}\n"
            "- {name: c, ansible.builtin.import_role: {name: 'x.y.{{ z }}', tasks_from: stage}}\n"
            "- {name: d, ansible.builtin.import_role: {name: web, tasks_from: other}}\n",
        },
        ["roles/web/tasks/main.yml: a", "roles/web/tasks/main.yml: d"],
    ),
    (
        unmanaged_templates,
        {
            "templates/a.j2": "{% set x = 1 %}\n# {{ ansible_managed }}\n",
            "templates/b.j2": "# ours\n# {{ ansible_managed }}\n",
            "templates/c.conf": "# {{ ansible_managed }}\n{{ now() }}\n",
            "templates/d/e.j2": "# {{ ansible_managed }} {{ ansible_facts.date_time.date }}\n",
        },
        ["roles/web/templates/b.j2", "roles/web/templates/c.conf", "roles/web/templates/d/e.j2"],
    ),
]


@pytest.mark.parametrize("check", [row[0] for row in CHECKS])
def test_checkout(checkout: Sources, check: Check) -> None:
    assert check(checkout) == []


@pytest.mark.parametrize(("check", "files", "found"), CHECKS)
def test_check_finds(wrong: Write, check: Check, files: dict[str, str], found: list[str]) -> None:
    assert check(wrong(files)) == found
