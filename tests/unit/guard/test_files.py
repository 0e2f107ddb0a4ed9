"""A release brings every file that the guard imports."""

from __future__ import annotations

import ast
import sys

import yaml

from .conftest import ROOT

GUARD = ROOT / "files" / "guard"


def test_release_brings_what_the_guard_imports() -> None:
    tasks = yaml.safe_load((ROOT / "roles/vllm/tasks/stage.yml").read_text())
    (sources,) = (
        task["vars"]["__vllm_sources"]
        for task in tasks
        if "__vllm_sources" in (task.get("vars") or {})
    )
    brought = {path.stem for path in GUARD.glob("*.py")}
    brought |= {path[len("guard/") : -len(".py")] for path in sources if path.endswith(".py")}
    wanted = set()
    for path in GUARD.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                wanted.add(str(node.module))
    own = {name for name in wanted if name.partition(".")[0] not in sys.stdlib_module_names}
    assert own >= {"_probe", "_gpu_bus"}
    assert own <= brought
