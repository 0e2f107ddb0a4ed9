"""Releases whose model gives the wrong answer: refused on the first, switched back on the next."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ansible_playbook
from host import Host
from openai_api import answers

UNIT, TARGET = "vllm@smollm2.service", "vllm.target"


def roll_out(expect: str, count: int = 1) -> subprocess.CompletedProcess[str]:
    """Run stage and rollout with a canary whose answer must contain `expect`."""
    (first,) = ansible_playbook.instances()
    first["canary"]["expect"] = expect
    instances = [first, {**first, "name": "spare", "port": 8100}][:count]
    return ansible_playbook.run("playbooks/rollout.yml", {"vllm_instances": instances})


@contextmanager
def asked_meanwhile(url: str, model: str) -> Iterator[list[bool]]:
    """Ask through the gateway all the time, as people do; yield which questions were answered."""
    answered: list[bool] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.2):
            answered.append(answers(url, model))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        done.set()
        thread.join()


def current(host: Host) -> str:
    return host.run("readlink /opt/gpufleet/vllm/current", check=False)


def test_first_release_with_a_wrong_answer(host: Host, url: str, model: str) -> None:
    # As an operator stops all instances of a host.
    host.run(f"systemctl stop {TARGET} && rm /opt/gpufleet/vllm/current")
    host.run("rm -f /opt/gpufleet/vllm/verified /opt/gpufleet/vllm/previous")
    with asked_meanwhile(url, model) as answered:
        run = roll_out("Berlin")
    assert run.returncode != 0
    assert "did not pass its gate" in run.stdout, run.stdout[-3000:]
    assert "Berlin" in run.stdout
    # What it says is wrong, and it said it to the gate alone.
    assert len(answered) > 50
    assert not any(answered)
    # Which of the two depends on whether systemd was about to try again when it was stopped.
    assert host.show(UNIT, "ActiveState")["ActiveState"] in ("failed", "inactive")


def test_good_release_after_it(host: Host, url: str, model: str) -> None:
    run = roll_out("Paris")
    assert run.returncode == 0, run.stdout[-3000:]
    assert answers(url, model)
    assert host.show(TARGET, "ActiveState")["ActiveState"] == "active"


def test_bad_release_is_switched_back(host: Host, url: str, model: str) -> None:
    good = current(host)
    run = roll_out("Madrid", count=2)
    assert run.returncode != 0
    assert "did not pass its gate" in run.stdout, run.stdout[-3000:]
    assert current(host) == good
    # The first failure counts, in the order of names: what comes after it is left as it was.
    assert host.run("journalctl --quiet _SYSTEMD_UNIT=vllm@spare.service") == ""
    assert host.show(UNIT, "ActiveState")["ActiveState"] == "active"
    assert answers(url, model)
