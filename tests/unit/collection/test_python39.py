"""What runs on managed hosts must be Python 3.9 and import the standard library only."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
SHIPPED = [*PLUGINS.glob("modules/*.py"), *PLUGINS.glob("module_utils/*.py")]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_old_python_can_run_it(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        for name in names:
            own = name.startswith(("ansible.module_utils.", "ansible_collections.gpufleet."))
            assert own or name.split(".")[0] in sys.stdlib_module_names, name


def test_there_is_something_to_check() -> None:
    assert len(SHIPPED) >= 20
