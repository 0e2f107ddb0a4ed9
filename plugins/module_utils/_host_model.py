# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can each model that is not on this host yet be brought, from where its instance says?"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._host_disk import Need, size_below
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import (
    Finding,
    Seen,
    human,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_hub import (
    HubRequest,
    address_of,
    size_on_hub,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import (
    NotAskedError,
    Result,
    Route,
    Unreachable,
    failure,
    get,
    refusal,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_checks import find_problems
from ansible_collections.gpufleet.llm.plugins.module_utils._model_files import ModelError
from ansible_collections.gpufleet.llm.plugins.module_utils._model_hub import (
    HUGGINGFACE,
    patterns_of,
    read_token,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import (
    Layout,
    source_files,
)

_TOOLS = {"huggingface": "hf", "modelscope": "modelscope"}


@dataclass(frozen=True)
class Access:
    """How this host reaches hubs and archives, as the variables model_* say."""

    root: Path
    hub: str = HUGGINGFACE
    endpoint: str = ""
    token_file: str = ""
    exclude: tuple[str, ...] = ()
    tools_venv: str = ""
    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""

    def route(self) -> Route:
        """The way there. Of the clients only ModelScope's brings authorities of its own."""
        return Route("model", self.proxy, self.ca_bundle, self.hub == "modelscope")


@dataclass(frozen=True)
class Model:
    """One model revision and its source: `hub`, `path` or `url`; `variable` is its instance.

    `path` is a directory of this host; for one of the control node it is empty, and `size` says
    how many bytes come from there, `weights` how many of them vLLM loads, and `config` what its
    config.json holds.
    """

    variable: str
    name: str
    revision: str
    source: str
    path: str = ""
    size: int = 0
    weights: int = 0
    url: str = field(default="", repr=False)
    config: dict[str, Any] = field(default_factory=dict, hash=False)


def absent(models: list[Model], access: Access) -> list[Model]:
    """Those that are not on this host yet, each revision once."""
    by_place = {Layout(access.root, m.name, m.revision).dest: m for m in reversed(models)}
    return [model for place, model in reversed(by_place.items()) if not place.is_dir()]


def jobs(models: list[Model], access: Access) -> dict[str, Callable[[], int]]:
    """What must be asked over the network, by the model's variable: each job returns bytes."""

    def of_hub(model: Model) -> Callable[[], int]:
        return lambda: size_on_hub(hub_request(model, access))

    def of_url(model: Model) -> Callable[[], int]:
        return lambda: _size_of_archive(model, access)

    made = {"hub": of_hub, "url": of_url}
    return {model.variable: made[model.source](model) for model in models if model.source in made}


def check_models(
    models: list[Model], access: Access, results: Mapping[str, Result]
) -> tuple[Seen, list[Need]]:
    """Judge every source, and return also the room that the models need."""
    seen = Seen("")
    needs, texts = [], []
    if any(model.source == "hub" for model in models):
        seen.findings += _missing_tools(access)
    for model in models:
        size = 0
        result = results.get(model.variable, model.size)
        if model.path:
            size, findings = _check_directory(model)
            seen.findings += findings
        elif isinstance(result, Exception):
            finding = failure(result, *_asked(model, access))
            seen.findings += [finding] if finding else []
            texts += [f"{model.name}: {result}"] if isinstance(result, NotAskedError) else []
        else:
            size = result
        if size:
            what = f"model {model.name}"
            started = size_below(Layout(access.root, model.name, model.revision).partial)
            needs.append(Need(access.root, max(0, size - started), what, "model_root"))
            texts.append(f"{model.name}: {human(size)}")
    # Two instances may have the same trouble with one hub.
    seen.findings = list(dict.fromkeys(seen.findings))
    seen.text = "; ".join(texts) or ("not reached" if models else "every model is here")
    return seen, needs


def hub_request(model: Model, access: Access) -> HubRequest:
    """The question for a model. Raises Unreachable where its token cannot be read."""
    token = ""
    if access.token_file:
        try:
            token = read_token(Path(access.token_file))
        except ModelError as error:
            finding = Finding("model_hub_token_file", error.problem, error.remedy)
            raise Unreachable(finding) from error
    return HubRequest(
        kind=access.hub,
        name=model.name,
        revision=model.revision,
        variable=model.variable,
        route=access.route(),
        endpoint=access.endpoint,
        token=token,
        exclude=tuple(patterns_of(access.exclude)),
    )


def _size_of_archive(model: Model, access: Access) -> int:
    """Room for the archive and what is unpacked from it, which is as much again or more."""
    variable = f"{model.variable}.source.url"
    route = Route("model", access.proxy, access.ca_bundle, own_authorities=False)
    answer = get(route, model.url, variable, headers={"Accept-Encoding": "identity"})
    if answer.status != http.client.OK:
        raise Unreachable(refusal(answer, variable))
    return 2 * int(answer.headers.get("content-length") or 0)


def _check_directory(model: Model) -> tuple[int, list[Finding]]:
    """Bytes of the directory that a model is copied from, and what is wrong with it."""
    variable, folder = f"{model.variable}.source.path", Path(model.path)
    if not folder.is_dir():
        return 0, [
            Finding(
                variable,
                f"There is no directory {folder} on this host.",
                "Bring the model there, correct the path, or set path_on to control where it lies "
                "on the control node.",
            )
        ]
    try:
        names = source_files(folder)
    except ModelError as error:
        return 0, [Finding(variable, error.problem, error.remedy)]
    problems = find_problems(folder, names)
    findings = [
        Finding(
            variable, f"{folder} is not a whole model: {problem}.", f"Copy it to {folder} again."
        )
        for problem in problems
    ]
    return sum((folder / name).stat().st_size for name in names), findings


def _asked(model: Model, access: Access) -> tuple[str, str]:
    """Address of the server that has the model, and the variable that says so."""
    if model.source == "url":
        return model.url, f"{model.variable}.source.url"
    return address_of(access.hub, access.endpoint), "model_hub_endpoint"


def _missing_tools(access: Access) -> list[Finding]:
    """The environment of the hubs' tools, where one is named in place of our own."""
    tool = Path(access.tools_venv, "bin", _TOOLS[access.hub])
    if not access.tools_venv or tool.exists():
        return []
    return [
        Finding(
            "model_tools_venv",
            f"There is no {tool}, which downloads the model.",
            "Correct model_tools_venv, or leave it empty to have the tools installed.",
        )
    ]
