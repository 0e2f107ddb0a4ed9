# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the role `nvidia_driver`, applied to what its module found on a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils import _driver_rules


class FilterModule:
    """Filters of the role `nvidia_driver`."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "nvidia_driver_open_modules": _driver_rules.open_modules,
            "nvidia_driver_refusals": _driver_rules.refusals,
            "nvidia_driver_faults": _driver_rules.faults,
            "nvidia_driver_pending": _driver_rules.pending,
        }
