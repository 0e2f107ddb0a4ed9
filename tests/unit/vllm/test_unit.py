"""What the unit waits for, and what its sandbox leaves to the commands that need it."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from ansible_collections.gpufleet.llm.plugins.module_utils import _gpu_bus

UNIT = Path(__file__).resolve().parents[3] / "roles/vllm/templates/vllm@.service.j2"


def test_the_look_for_lost_gpus_can_read_the_kernel_log() -> None:
    lines = UNIT.read_text().splitlines()
    assert "ExecStartPre=+/usr/bin/python3 -B guard/llm_guard.py devices %i" in lines
    # systemd.service(5): `+` does not bypass options of the whole control group.
    assert "DevicePolicy=closed" in lines
    assert f"DeviceAllow={_gpu_bus.KERNEL_LOG} r" in lines
    # What runs as the service does not see it all the same.
    assert "ProtectKernelLogs=yes" in lines


def test_waits_for_the_disks_of_models_and_environments() -> None:
    line = re.compile(r"^RequiresMountsFor=(.+)$", re.MULTILINE)
    paths = [
        jinja2.Environment(autoescape=True).from_string(path).render(model_root="/data/models")
        for path in line.findall(UNIT.read_text())
    ]
    assert paths == ["/data/models", "/opt/gpufleet/venvs"]
