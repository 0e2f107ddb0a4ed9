# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's rules for the role `nginx` itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils import _check_gateway


def gateway_problems(values: Mapping[str, Any]) -> list[str]:
    """One line for everything wrong with the role's variables, without any key in it."""
    return [
        f"{variable}: {problem} {remedy}"
        for variable, problem, remedy in _check_gateway.gateway_problems(values)
    ]


class FilterModule:
    """Filters of the role `nginx`."""

    def filters(self) -> dict[str, Callable[[Mapping[str, Any]], list[str]]]:
        """Return the filters by name."""
        return {"gateway_problems": gateway_problems}
