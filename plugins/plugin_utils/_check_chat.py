# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Would the chat app accept its settings, as files/chat/gpufleet_chat/settings.py reads them?"""

from __future__ import annotations

from urllib.parse import urlsplit

from ansible_collections.gpufleet.llm.plugins.plugin_utils._chat_looks import (
    color_problem,
    logo_problem,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import Host

TITLE_FORBIDDEN = frozenset("<>&\"'\\")


def check_chat(host: Host) -> list[Finding]:
    """Title, looks, temperature, address of the API and of the history's server."""
    findings = []
    title = host.values.get("chainlit_title")
    if title is not None and (
        not title.strip() or not title.isprintable() or TITLE_FORBIDDEN & set(title)
    ):
        findings.append(
            Finding(
                host.name,
                "chainlit_title",
                "It cannot stand in a page as it is.",
                "Use one printable line without < > & quotes or backslash.",
            )
        )
    for variable, problem_of in (
        ("chainlit_primary_color", color_problem),
        ("chainlit_logo_path", logo_problem),
    ):
        value = host.text(variable)
        problem = problem_of(value) if value else None
        if problem is not None:
            findings.append(Finding(host.name, variable, *problem))
    temperature = host.text("chainlit_temperature")
    if temperature and not _is_temperature(temperature):
        findings.append(
            Finding(
                host.name,
                "chainlit_temperature",
                f'"{temperature}" is no temperature.',
                'Write a number of 0 or more in quotes, "0.7", or "" for the model\'s own.',
            )
        )
    url = host.text("chainlit_upstream_url")
    if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc):
        findings.append(
            Finding(
                host.name,
                "chainlit_upstream_url",
                f'"{url}" is no address of an API.',
                "Write it as in http://gateway.example.com/v1, or remove the line: the default is "
                "the first gateway.",
            )
        )
    database = host.text("chainlit_database_url")
    if database and not _is_database(database):
        findings.append(
            Finding(
                host.name,
                "chainlit_database_url",
                # Without the value, which holds a password.
                "It is no address of a PostgreSQL database.",
                "Write it as in postgresql://USER:PASSWORD@HOST/DATABASE, with what is special in "
                'the password as %XX, or "" for a file on the host.',
            )
        )
    return findings


def _is_database(text: str) -> bool:
    try:
        url = urlsplit(text)
        return bool(url.scheme in ("postgresql", "postgres") and url.hostname and url.port != 0)
    except ValueError:
        return False


def _is_temperature(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf")
    except ValueError:
        return False
