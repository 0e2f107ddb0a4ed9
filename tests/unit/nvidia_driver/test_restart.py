"""The order of a restart, which no test host can show: it shares its kernel with this machine."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.unit.collection.sources import tasks_in

TASKS = Path(__file__).resolve().parents[3] / "roles/nvidia_driver/tasks"


def modules(name: str) -> list[str]:
    """The modules of a task file in their order, blocks by what is in them."""
    tasks = tasks_in(yaml.safe_load((TASKS / name).read_text()))
    # A module's name has dots, no keyword of a task has.
    return [key for task in tasks for key in task if "." in key]


def test_instances_end_before_the_host_does_and_answer_before_the_next_one() -> None:
    assert modules("restart.yml") == [
        "ansible.builtin.find",  # which instances
        "ansible.builtin.systemd_service",  # they finish their answers
        "ansible.builtin.reboot",
        "gpufleet.llm.gpu_facts",
        "ansible.builtin.assert",  # the driver is in use
        "ansible.builtin.command",  # they answer again
        "ansible.builtin.fail",
    ]


def test_every_kernel_is_looked_at_before_a_restart() -> None:
    found = modules("present.yml")
    assert found[-3:] == [
        "gpufleet.llm.gpu_facts",
        "ansible.builtin.assert",
        "ansible.builtin.include_tasks",
    ]
    assert "ansible.builtin.reboot" not in found + modules("apply.yml")
