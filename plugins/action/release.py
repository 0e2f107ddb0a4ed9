# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the module `release`: reads the files of `sources` and hands them over."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# What development leaves in a source tree and no release needs.
IGNORED = {"__pycache__", "tests", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def read_tree(source: Path) -> dict[str, bytes]:
    """Content of every file below `source` by relative path; of `source` itself under ''."""
    if source.is_file():
        return {"": source.read_bytes()}
    return {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and not IGNORED.intersection(path.relative_to(source).parts)
    }


class ActionModule(ActionBase):
    """Replace each path of `sources` by the content found there."""

    TRANSFERS_FILES = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the module with `sources` as base64 text by path in the release."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        contents: dict[str, str] = {}
        for place, source in arguments.get("sources", {}).items():
            tree = read_tree(Path(source))
            if not tree:
                raise AnsibleActionFail(f"Nothing to release in {source}: is the checkout whole?")
            for path, content in tree.items():
                name = f"{place}/{path}" if path else place
                contents[name] = base64.b64encode(content).decode()
        arguments["sources"] = contents
        result: dict[str, Any] = self._execute_module(
            module_name="gpufleet.llm.release", module_args=arguments, task_vars=task_vars
        )
        # The content of every file would drown whatever else -v shows.
        result.get("invocation", {}).get("module_args", {}).pop("sources", None)
        return result
