"""Writes what a release holds for each instance of instances.yml: render.py DIRECTORY.

Runs where ansible is: the files come from the filter of the role vllm and from the role's defaults.
prepare.sh starts it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.gpufleet.llm.plugins.filter.vllm_instances import vllm_instance_files

ROOT = Path(__file__).resolve().parents[2]
MODEL_ROOT = "/var/lib/gpufleet/models"


def settings(defaults: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """What the role hands to the filter, from its defaults."""
    handed = {
        name.removeprefix("vllm_"): value
        for name, value in defaults.items()
        if name.startswith("vllm_")
    }
    return {
        **handed,
        "options": {**defaults["vllm_options"], **common["options"]},
        "environment": {**defaults["vllm_environment"], **common["environment"]},
        "listen_address": "127.0.0.1",
        "model_root": MODEL_ROOT,
    }


def main() -> None:
    """Render all instances and what the unit needs besides."""
    document = yaml.safe_load((ROOT / "tests/gpu/instances.yml").read_text())
    defaults = yaml.safe_load((ROOT / "roles/vllm/defaults/main.yml").read_text())
    private = yaml.safe_load((ROOT / "roles/vllm/vars/main.yml").read_text())
    instances = [
        {
            "name": name,
            "model": "Qwen/Qwen3-0.6B-FP8",
            "revision": "configuration",
            "served_model_name": "qwen3-0.6b-fp8",
            "port": 8000,
            "options": options,
        }
        for name, options in document["instances"].items()
    ]
    target = Path(sys.argv[1])
    (target / "instances").mkdir(parents=True, exist_ok=True)
    files = vllm_instance_files(instances, settings(defaults, document["common"]))
    for path, text in files.items():
        (target / path).write_text(text)
    unit = {
        "restart_seconds": defaults["vllm_restart_delay_seconds"],
        "stop_seconds": defaults["vllm_shutdown_timeout_seconds"]
        + private["__vllm_stop_margin_seconds"],
    }
    (target / "unit.json").write_text(json.dumps(unit))


if __name__ == "__main__":
    main()
