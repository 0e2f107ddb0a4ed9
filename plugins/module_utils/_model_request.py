# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can what is asked of `model_revision` mean anything? Asked before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils import _model_hub as hub
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import ModelError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class RequestError(ModelError):
    """A refusal because of one option of the request."""

    def __init__(self, option: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.option = option


def require_valid(params: Mapping[str, Any]) -> None:
    """Raise RequestError when an option cannot mean anything."""
    name, revision, url = params["name"], params["revision"], params["url"]
    if not _NAME.fullmatch(name):
        raise RequestError("name", f"The name {name!r} is not valid.", "Write organisation/name.")
    if not _REVISION.fullmatch(revision) or ".partial" in revision:
        raise RequestError(
            "revision",
            f"The revision {revision!r} cannot name a directory.",
            "Use letters, digits and ._- only, without .partial.",
        )
    for option in ("url_sha256", "manifest_sha256"):
        if params[option] and not _SHA256.fullmatch(params[option]):
            raise RequestError(
                option,
                f"{option} is not a SHA-256.",
                "Give 64 hex digits, small letters, as sha256sum does.",
            )
    if params["source"] == "hub":
        try:
            hub.require_pinned(params["hub"], revision)
        except ModelError as error:
            raise RequestError("revision", error.problem, error.remedy) from error
    if params["source"] == "url" and not url.startswith(("http://", "https://")):
        raise RequestError(
            "url",
            "url is neither http nor https.",
            "For files that are on the host already use source=path with the unpacked directory.",
        )
