# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a hub about one revision of a model: does it exist, may we have it, how large is it?"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, Optional
from urllib.parse import quote, urlsplit

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import loaded_weights
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import Finding
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import (
    Answer,
    Route,
    Unreachable,
    get,
    refusal,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_hub import (
    HUGGINGFACE,
    RemoteFile,
)

_ENDPOINT = "model_hub_endpoint"
_ACCESS = "model_hub_token_file"
_HUGGINGFACE = "https://huggingface.co"
# Its tools ask the second one where the first does not know the model.
_MODELSCOPE = ("https://modelscope.cn", "https://www.modelscope.ai")
_SHARDS = "model-*-of-*.safetensors"
_LIST_BYTES = 64 * 2**20
_CONFIG_BYTES = 2**20
_NO_ACCESS = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)


@dataclass(frozen=True)
class HubRequest:
    """A revision on a hub; `variable` is the instance that asks for it."""

    kind: str
    name: str
    revision: str
    variable: str
    route: Route
    endpoint: str = ""
    token: str = field(default="", repr=False)
    exclude: tuple[str, ...] = ()


def address_of(kind: str, endpoint: str) -> str:
    """Address of a hub, its own where no mirror is named."""
    return (endpoint or (_HUGGINGFACE if kind == HUGGINGFACE else _MODELSCOPE[0])).rstrip("/")


def size_on_hub(request: HubRequest) -> int:
    """Bytes of the revision's files that would be fetched, 0 where the hub tells no sizes.

    Raises Unreachable with what stands in the way.
    """
    files = _huggingface(request) if request.kind == HUGGINGFACE else _modelscope(request)
    return sum(file.size for file in files)


# Bytes of a model's weights, and its config.json; None where the hub does not tell.
Described = tuple[Optional[int], Optional[dict[str, Any]]]


def describe_on_hub(request: HubRequest) -> Described:
    """What a revision needs on a card. Raises Unreachable with what stands in the way."""
    modelscope = request.kind != HUGGINGFACE
    files = _modelscope(request) if modelscope else _huggingface(request)
    sizes = {file.path: file.size for file in files}
    # The index is not read: it names the shards.
    size = loaded_weights(sizes, [path for path in sizes if fnmatch(path, _SHARDS)])
    if modelscope:
        return size, None
    answer = get(
        request.route,
        f"{address_of(request.kind, request.endpoint)}/{request.name}/resolve/"
        f"{quote(request.revision, safe='')}/config.json",
        _ENDPOINT,
        secrets={"Authorization": f"Bearer {request.token}"} if request.token else {},
        limit=_CONFIG_BYTES,
    )
    return size, _json(answer) if answer.status == http.client.OK else None


def _huggingface(request: HubRequest) -> list[RemoteFile]:
    endpoint = address_of(request.kind, request.endpoint)
    secrets = {"Authorization": f"Bearer {request.token}"} if request.token else {}
    revision = quote(request.revision, safe="")
    answer = get(
        request.route,
        f"{endpoint}/api/models/{request.name}/revision/{revision}?blobs=true",
        _ENDPOINT,
        secrets=secrets,
        limit=_LIST_BYTES,
    )
    if answer.status != http.client.OK:
        raise Unreachable(_refused(request, answer))
    document = _json(answer)
    try:
        files = [
            RemoteFile(str(item["rfilename"]), int(item.get("size") or 0))
            for item in document["siblings"]
        ]
    except (KeyError, TypeError, ValueError):
        raise Unreachable(_not_the_api(answer)) from None
    files = _wanted(request, files)
    if files:
        # The list may be public and the files not, and they come from another server than it.
        largest = max(files, key=lambda file: file.size)
        file = get(
            request.route,
            f"{endpoint}/{request.name}/resolve/{revision}/{quote(largest.path)}",
            _ENDPOINT,
            headers={"Range": "bytes=0-0"},
            secrets=secrets,
        )
        if file.status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise Unreachable(_refused(request, file))
    return files


def _modelscope(request: HubRequest) -> list[RemoteFile]:
    endpoints = [request.endpoint.rstrip("/")] if request.endpoint else list(_MODELSCOPE)
    secrets = {"Cookie": f"m_session_id={request.token}"} if request.token else {}
    for endpoint in endpoints:
        answer = get(
            request.route,
            f"{endpoint}/api/v1/models/{request.name}/repo/files"
            f"?Revision={quote(request.revision, safe='')}&Recursive=True",
            _ENDPOINT,
            secrets=secrets,
            limit=_LIST_BYTES,
        )
        if answer.status != http.client.NOT_FOUND:
            break
    if answer.status != http.client.OK:
        raise Unreachable(_refused(request, answer))
    try:
        files = [
            RemoteFile(str(item["Path"]), int(item["Size"]))
            for item in _json(answer)["Data"]["Files"]
            if item["Type"] != "tree"
        ]
    except (KeyError, TypeError, ValueError):
        raise Unreachable(_not_the_api(answer)) from None
    return _wanted(request, files)


def _wanted(request: HubRequest, files: list[RemoteFile]) -> list[RemoteFile]:
    return [
        file
        for file in files
        if not any(fnmatch(file.path, pattern) for pattern in request.exclude)
    ]


def _json(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Unreachable(_not_the_api(answer))
    return document


def _not_the_api(answer: Answer) -> Finding:
    return Finding(
        _ENDPOINT,
        f"{urlsplit(answer.url).netloc} answers, but not as a hub does.",
        f"Correct {_ENDPOINT}, and model_hub for the kind of hub.",
    )


def _refused(request: HubRequest, answer: Answer) -> Finding:
    """The finding for a hub that does not give the list or a file."""
    where = urlsplit(answer.url).hostname
    code = answer.headers.get("x-error-code", "")
    if code == "RepoNotFound" or (answer.status == http.client.NOT_FOUND and not code):
        # A hub hides private models in this way, and ModelScope tells no difference.
        return Finding(
            f"{request.variable}.model",
            f"{where} has no model {request.name} with the revision {request.revision}, or it is "
            "private.",
            f"Correct name and revision as the hub spells them; a private model needs {_ACCESS}.",
        )
    if code == "RevisionNotFound":
        return Finding(
            f"{request.variable}.revision",
            f"{where} has no revision {request.revision} of {request.name}.",
            "Take a commit that the model's page lists under 'Files and versions'.",
        )
    if answer.status in _NO_ACCESS:
        token = "the token that is there may not" if request.token else "no token is given"
        return Finding(
            _ACCESS,
            f"{where} gives {request.name} only to those who may have it; {token}.",
            "Accept the model's conditions on its page, and put a token of that account into "
            f"{_ACCESS}.",
        )
    return refusal(answer, _ENDPOINT)
