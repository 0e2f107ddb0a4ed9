"""The offset of a clock lies between two bounds; only what is surely too far off is refused."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.llm.plugins.plugin_utils._host_clock import check_clock

# The host's clock against ours, how long the connection and the work there took, in seconds.
CASES: dict[str, tuple[float, float, float, str | None]] = {
    "right": (0, 1, 8, None),
    "within": (59, 0.2, 3, None),
    "beyond, but not surely": (62, 8, 3, None),
    "ahead": (3600, 1, 8, "3600 s ahead of"),
    "behind": (-86400, 1, 8, "86400 s behind"),
}


@pytest.mark.parametrize("case", CASES)
def test_clock(case: str) -> None:
    offset, way, work, words = CASES[case]
    before = 1_800_000_000.0
    began = before + way + offset
    seen = check_clock(before, began, began + work, before + 2 * way + work, 60)
    assert seen.text.startswith(f"{offset:+.1f} s")
    assert [finding.variable for finding in seen.findings] == (
        ["preflight_clock_tolerance_seconds"] if words else []
    )
    for finding in seen.findings:
        assert str(words) in finding.problem
