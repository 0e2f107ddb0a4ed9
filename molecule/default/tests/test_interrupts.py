"""Ctrl-C at random moments of an upgrade: the service answers, and the next run ends green.

GPUFLEET_INTERRUPTS sets how many moments, GPUFLEET_SEED which.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

import ansible_playbook
import pytest
from host import Host, wait_until
from openai_api import answers

UNITS = ("vllm@smollm2.service", "chainlit.service")
COUNT = int(os.environ.get("GPUFLEET_INTERRUPTS", "1"))
SEED = int(os.environ.get("GPUFLEET_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
# So long an upgrade takes, with a start of vLLM and without; later nothing is left to interrupt.
WITH_VLLM_SECONDS, CHAT_ALONE_SECONDS = 110.0, 55.0
# A start costs a minute of both cores.
ANSWER_SECONDS = 300.0


def concerns_vllm(number: int) -> bool:
    """Whether an upgrade is of vLLM too: every fourth; the others are of the chat alone."""
    return number % 4 == 1


def moments() -> list[float]:
    """Seconds after the start of each upgrade, spread over its whole length."""
    chosen = random.Random(SEED)
    return [
        round(
            (number - 1 + chosen.random())
            / COUNT
            * (WITH_VLLM_SECONDS if concerns_vllm(number) else CHAT_ALONE_SECONDS),
            1,
        )
        for number in range(1, COUNT + 1)
    ]


def upgrade(number: int) -> dict[str, Any]:
    """Return variables that differ from those of every other number."""
    instances = ansible_playbook.instances()
    instances[0]["options"]["seed"] = max(n for n in range(1, number + 1) if concerns_vllm(n))
    return {"vllm_instances": instances, "chainlit_title": f"Title {number}"}


def invocations(host: Host) -> list[str]:
    return [host.show(unit, "InvocationID")["InvocationID"] for unit in UNITS]


@pytest.mark.parametrize(("number", "moment"), list(enumerate(moments(), start=1)))
def test_interrupt(host: Host, url: str, model: str, number: int, moment: float) -> None:
    before = invocations(host)
    started = ansible_playbook.start("site.yml", upgrade(number))
    time.sleep(moment)
    ended = started.poll() is not None
    output = ansible_playbook.press_ctrl_c(started) if not ended else started.communicate()[0]
    task = [line for line in output.splitlines() if line.startswith("TASK")][-1:]
    # What was not restarted answers at once; what was must be given the time to load.
    patience = 30.0 if invocations(host) == before else ANSWER_SECONDS
    seconds = wait_until("the service answers", lambda: answers(url, model), patience)
    print(f"seed {SEED}, {moment} s, in {task}: answered after {seconds:.0f} s")

    again = ansible_playbook.run("site.yml", upgrade(number))
    assert again.returncode == 0, again.stdout[-3000:]
    assert answers(url, model)
    settings = host.run("cat /proc/$(systemctl show -P MainPID chainlit)/cwd/settings.json")
    assert f"Title {number}" in settings
    assert host.run("find /opt/gpufleet -name '*.partial'") == ""


def test_what_nginx_has_not_loaded_is_loaded(host: Host) -> None:
    """As after Ctrl-C between the writing of a file and the reload of nginx."""

    def workers() -> set[str]:
        return set(host.run("pgrep --full '[n]ginx: worker process$'").split())

    before = workers()
    time.sleep(2)  # systemd tells whole seconds
    host.run("touch /etc/nginx/gpufleet_keys.conf")
    for changed in ("changed=1 ", "changed=0 "):
        run = ansible_playbook.run("playbooks/gateway.yml")
        assert run.returncode == 0, run.stdout[-3000:]
        assert changed in run.stdout, run.stdout[-3000:]
        assert not before & workers()


def test_afterwards_the_inventory_again(host: Host, url: str, model: str) -> None:
    done = ansible_playbook.run("site.yml")
    assert done.returncode == 0, done.stdout[-3000:]
    assert answers(url, model)
