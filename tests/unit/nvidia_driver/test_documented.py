"""The tables of refusals in docs/driver.md name every refusal of the role, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.llm.plugins.module_utils._driver_packages import CommandError
from ansible_collections.gpufleet.llm.plugins.modules import nvidia_driver_packages as module

from tests.unit.collection.sources import tasks_in

ROOT = Path(__file__).resolve().parents[3]
SOURCES = (
    "plugins/plugin_utils/_driver_rules.py",
    "plugins/module_utils/_driver_packages.py",
    "plugins/modules/nvidia_driver_packages.py",
)
# What takes the text of a refusal.
CALLS = ("append", "PackageError", "CommandError")
ROW = re.compile(r"^\| `([^`]+)` \|[^|]+\|.+\|$", re.MULTILINE)


def text_of(expression: ast.expr) -> str:
    """Text that an expression makes, with NAME for what is known only when it runs."""
    if isinstance(expression, ast.Constant):
        return str(expression.value)
    if isinstance(expression, ast.JoinedStr):
        return "".join(map(text_of, expression.values))
    if isinstance(expression, ast.BinOp):
        return text_of(expression.left) + text_of(expression.right)
    if isinstance(expression, ast.IfExp):
        return f"{text_of(expression.body)} or {text_of(expression.orelse)}"
    return "NAME"


def of_python(path: Path) -> Iterator[str]:
    """Refusals in a module."""
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and call.args:
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            text = text_of(call.args[0])
            if name in CALLS and re.search(r"[a-z] [a-z]", text):
                yield text


def of_tasks(path: Path) -> Iterator[str]:
    """Refusals in a task file that are not those of the rules."""
    for task in tasks_in(yaml.safe_load(path.read_text())):
        told = task.get("ansible.builtin.assert", {}).get("fail_msg") or task.get(
            "ansible.builtin.fail", {}
        ).get("msg", "")
        text = re.sub(r"{{.*?}}", "NAME", told, flags=re.DOTALL)
        if "_faults" not in told and re.search(r"[a-z] [a-z]", text):
            yield text


def refusals() -> list[str]:
    """Text of every refusal."""
    files = sorted((ROOT / "roles/nvidia_driver/tasks").glob("*.yml"))
    return [
        *(text for name in SOURCES for text in of_python(ROOT / name)),
        *(text for path in files for text in of_tasks(path)),
        *(
            module.explained(CommandError(said))
            for said in ("of dkms", "unmet dependencies", "Conflicting values")
        ),
    ]


def phrases() -> list[str]:
    """The first column of the tables."""
    page = (ROOT / "docs/driver.md").read_text()
    return ROW.findall(page[page.index("## What it refuses") :])


REFUSALS = refusals()
PHRASES = phrases()


def test_all_are_found() -> None:
    assert len(REFUSALS) > 20
    assert any("Secure Boot" in text for text in REFUSALS)
    assert any("this role knows" in text for text in REFUSALS)


@pytest.mark.parametrize("text", REFUSALS, ids=lambda text: text[:40])
def test_every_refusal_is_in_the_tables(text: str) -> None:
    assert [phrase for phrase in PHRASES if phrase in text], text


@pytest.mark.parametrize("phrase", PHRASES)
def test_the_tables_have_no_other(phrase: str) -> None:
    assert [text for text in REFUSALS if phrase in text]


@pytest.mark.parametrize("text", REFUSALS, ids=lambda text: text[:40])
def test_every_refusal_has_a_remedy(text: str) -> None:
    # The package manager's own words may have none; by hand is one.
    assert "Remedy: " in text or "by hand" in text or "ended with" in text
