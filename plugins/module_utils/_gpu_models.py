# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances ask of their cards, from their options and from models here or still on a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_demand import (
    Demand,
    read_config,
    weights_in,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_hub import (
    Described,
    describe_on_hub,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_model import (
    Access,
    Model,
    hub_request,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_network import Result
from ansible_collections.gpufleet.llm.plugins.module_utils._model_store import Layout


def description_jobs(models: list[Model], access: Access) -> dict[str, Callable[[], Described]]:
    """What must be asked of a hub about models that are not here, each job by its own name."""

    def of(model: Model) -> Callable[[], Described]:
        return lambda: describe_on_hub(hub_request(model, access))

    return {_job(model): of(model) for model in models if model.source == "hub"}


def demands(
    instances: list[dict[str, Any]],
    models: list[Model],
    access: Access,
    results: Mapping[str, Result],
) -> list[Demand]:
    """Every instance with what is known of its model; `results` are those of the jobs."""
    by_variable = {model.variable: model for model in models}
    found = []
    for item in instances:
        demand = Demand(item["name"], tuple(item["gpus"]), _named(item["options"]))
        model = by_variable.get(demand.variable)
        weights, config = _describe(model, models, access, results) if model else (None, None)
        found.append(Demand(demand.name, demand.gpus, demand.options, weights, config))
    return found


def _describe(
    model: Model, models: list[Model], access: Access, results: Mapping[str, Result]
) -> Described:
    """Bytes of a model's weights and its config.json, None where unknown."""
    place = Layout(access.root, model.name, model.revision).dest
    for folder in (place, Path(model.path) if model.path else place):
        if folder.is_dir():
            return weights_in(folder), read_config(folder)
    if model.config:
        return model.weights or None, model.config
    # Of several instances of one revision, the hub was asked for the first.
    same = [item for item in models if (item.name, item.revision) == (model.name, model.revision)]
    for item in same:
        result = results.get(_job(item))
        if isinstance(result, tuple):
            return result
    return None, None


def _job(model: Model) -> str:
    return f"{model.variable} described"


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their names with dashes, as vLLM spells them."""
    return {name.replace("_", "-"): value for name, value in options.items()}
