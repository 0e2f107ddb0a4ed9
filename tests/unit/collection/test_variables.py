"""Every variable of a role is defined, used, and named after its role."""

from __future__ import annotations

import pytest

from tests.unit.collection.conftest import Write
from tests.unit.collection.sources import Check, Sources


def unused_options(sources: Sources) -> list[str]:
    """Defaults and options that nothing reads."""
    used = sources.used | sources.quoted
    return [
        f"{role.name}: {name}"
        for role in sources.roles
        for name in sorted({*role.defaults, *role.options} - used)
    ]


def unused_variables(sources: Sources) -> list[str]:
    """Private variables that nothing reads, and results that nothing reads or describes."""
    used = sources.used | sources.quoted
    return [
        f"{role.name}: {name}"
        for role in sources.roles
        for name in sorted(role.defined - {*role.defaults, *role.options} - used - role.described)
    ]


def undefined_variables(sources: Sources) -> list[str]:
    """Variables with a role's name that are read, and that nothing defines."""
    return [
        f"{role.name}: {name}"
        for role in sources.roles
        for name in sorted(sources.used - sources.defined)
        if role.has(name)
    ]


def foreign_variables(sources: Sources) -> list[str]:
    """Private variables of a role that another one reads or sets, and names without a role's."""
    return [
        f"{role.name}: {name}"
        for role in sources.roles
        for name in sorted(role.used | role.defined)
        if name.startswith("__") and not role.is_private(name)
    ]


CHECKS: list[tuple[Check, dict[str, str], list[str]]] = [
    (
        unused_options,
        {
            "defaults/main.yml": "web_port: 80\nweb_name: a\nweb_root: /a\n",
            "tasks/main.yml": "- debug: {msg: '{{ web_port }} but not web_root'}\n",
            "templates/a.j2": "{% if web_name %}{% endif %}",
        },
        ["web: web_root"],
    ),
    (
        unused_variables,
        {
            "vars/Debian.yml": "__web_package: a\n__web_user: b\n",
            "tasks/main.yml": "- command: a {{ __web_user }}\n  register: __web_done\n"
            "- command: b\n  register: web_result\n",
            "meta/argument_specs.yml": "argument_specs: {main: {description: See web_result.}}",
        },
        ["web: __web_done", "web: __web_package"],
    ),
    (
        undefined_variables,
        {
            "tasks/main.yml": "- block:\n    - command: a\n      register: __web_done\n"
            "- debug:\n  when: __web_done is changed or __web_missing or other\n",
            "templates/a.j2": "{% for web in [1] %}{{ web_name }}{% endfor %}",
        },
        ["web: __web_missing", "web: web_name"],
    ),
    (
        foreign_variables,
        {"tasks/main.yml": "- debug: {msg: '{{ __db_port }}{{ __web_port }}'}\n"},
        ["web: __db_port"],
    ),
]


@pytest.mark.parametrize("check", [row[0] for row in CHECKS])
def test_checkout(checkout: Sources, check: Check) -> None:
    assert check(checkout) == []


@pytest.mark.parametrize(("check", "files", "found"), CHECKS)
def test_check_finds(wrong: Write, check: Check, files: dict[str, str], found: list[str]) -> None:
    assert check(wrong(files)) == found
