"""The core must outlive its user interface."""

from __future__ import annotations

import ast
from pathlib import Path

import gpufleet_chat
import pytest

PACKAGE = Path(gpufleet_chat.__file__).parent
ADAPTER = {
    "chainlit_app",
    "chainlit_chats",
    "chainlit_history",
    "chainlit_panel",
    "chainlit_presence",
    "chainlit_reload",
    "chainlit_resume",
    "chainlit_sessions",
    "chainlit_tokens",
    "chainlit_view",
    "server",
    "headers",
    "bounds",
    "chainlit_login",
    "client_address",
    "proven_name",
    "request_language",
    "visitors",
    "__main__",
}
FORBIDDEN = {"chainlit", "fastapi", "starlette", "uvicorn", "socketio", "engineio"}
CORE = sorted(path for path in PACKAGE.glob("*.py") if path.stem not in ADAPTER)


def imported(path: Path) -> set[str]:
    """The dotted names a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_core_knows_no_user_interface(path: Path) -> None:
    names = imported(path)
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    assert not names & {f"gpufleet_chat.{module}" for module in ADAPTER}


def test_the_core_is_not_empty() -> None:
    assert {"turn", "upstream", "monitor", "settings", "messages"} <= {path.stem for path in CORE}
