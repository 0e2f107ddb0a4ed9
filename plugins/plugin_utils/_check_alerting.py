# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the URLs of alerts ones that apprise could know? No finding quotes one: they are secrets."""

from __future__ import annotations

import re

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import item_path, one_typo_apart

# Those that the documentation names; apprise knows some 250, and the role asks it on the host.
SCHEMES = (
    "dingtalk",
    "wecombot",
    "feishu",
    "lark",
    "slack",
    "mailto",
    "mailtos",
    "json",
    "jsons",
)
# Of apprise, and one letter apart from one of these.
NEIGHBOURS = frozenset({"bark"})
_URL = re.compile(r"([a-z][a-z0-9+_.-]*)://[^\s/]\S*", re.IGNORECASE)


def check_alerting(host: Host) -> list[Finding]:
    """Texts that are no URL, and schemes that are mistyped."""
    findings = []
    for index, url in enumerate(host.values.get("alerting_urls") or []):
        problem = _problem(url)
        if problem:
            path = item_path("alerting_urls", index, url)
            findings.append(Finding(host.name, path, *problem))
    proxy = host.text("alerting_proxy")
    if proxy and not re.fullmatch(r"https?://\S+", proxy):
        findings.append(
            Finding(
                host.name,
                "alerting_proxy",
                "It is no address of a proxy.",
                "Write it as in http://proxy.example.com:3128.",
            )
        )
    return findings


def _problem(url: str) -> tuple[str, str] | None:
    match = _URL.fullmatch(url)
    if match is None:
        return (
            "It is no URL of apprise.",
            "Write it as in wecombot://KEY or mailtos://USER:PASSWORD@HOST/?to=ADDRESS, without "
            f"spaces; it may begin with {', '.join(SCHEMES)} and others of apprise.",
        )
    scheme = match.group(1).lower()
    meant = next((known for known in SCHEMES if one_typo_apart(scheme, known)), None)
    if meant and scheme not in SCHEMES and scheme not in NEIGHBOURS:
        return "apprise does not know the word before ://.", f"Did you mean {meant}?"
    return None
