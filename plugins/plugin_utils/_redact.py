# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps secrets out of what is printed, whatever a message may quote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import Finding
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import looks_secret

# Shorter texts stand in messages for other reasons, and are refused as secrets anyway.
_LEAST_LENGTH = 6
_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")


def secrets_in(options: Mapping[str, Any], values: Mapping[str, Any]) -> set[str]:
    """Every secret in `values`: by its spec (`no_log`), its name, or its place in an address."""
    found: set[str] = set()
    for name, value in values.items():
        spec = options.get(name, {})
        found.update(_secrets(name, spec, value, bool(spec.get("no_log"))))
    return {text for text in found if len(text) >= _LEAST_LENGTH}


def _secrets(name: str, spec: Mapping[str, Any], value: object, secret: bool) -> Iterator[str]:
    secret = secret or looks_secret(name)
    if isinstance(value, str):
        yield from _PASSWORD.findall(value)
        if secret:
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            inner = spec.get("options", {}).get(key, {})
            yield from _secrets(str(key), inner, item, secret or bool(inner.get("no_log")))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(name, spec, item, secret)


def redact(findings: list[Finding], secrets: set[str]) -> list[Finding]:
    """The findings with every secret in their texts replaced by stars."""

    def clean(text: str) -> str:
        for secret in longest_first:
            text = text.replace(secret, "********")
        return text

    longest_first = sorted(secrets, key=len, reverse=True)
    return [
        replace(
            finding,
            variable=clean(finding.variable),
            problem=clean(finding.problem),
            remedy=clean(finding.remedy),
        )
        for finding in findings
    ]
