"""Deaths, hangs, exhausted memory and wrong answers, each provoked on the running instance.

Every one is told exactly once, and its end as well.
"""

from __future__ import annotations

import json
import time

import bare_unit
import httpx
import pytest
from bare_unit import start_bare_unit, stop_bare_unit
from host import Host, wait_until
from inbox import Inbox
from instance import (
    RECOVERY_SECONDS,
    SETTINGS,
    UNIT,
    changed_file,
    journal,
    now,
    orphans,
    restarts,
    settings,
    state,
)
from openai_api import answers

pytestmark = pytest.mark.usefixtures("healthy")
VICTIMS = ["VLLM::EngineCore", "VLLM::Worker", "VLLM::APIServer_0", "vllm serve", "llm_guard"]
CANARY_MINUTES = 0.2
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("victim", VICTIMS)
def test_death_is_repaired(host: Host, url: str, model: str, inbox: Inbox, victim: str) -> None:
    before = host.processes(UNIT)
    host.run(f"kill -KILL {host.pid_of(UNIT, victim)}")
    wait_until("systemd restarts it", lambda: restarts(host) == 1, 60)
    seconds = wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    print(f"{victim}: killed, answered again {seconds:.0f} s after the restart")
    assert restarts(host) == 1
    assert not set(before) & set(host.processes(UNIT)), "a process of before is still there"
    assert orphans(host) == set()
    inbox.expect("restarted", "recovered")


@pytest.mark.parametrize("victim", ["VLLM::Worker", "VLLM::EngineCore"])
def test_hang_is_repaired(host: Host, url: str, model: str, inbox: Inbox, victim: str) -> None:
    host.run(f"kill -STOP {host.pid_of(UNIT, victim)}")
    assert httpx.get(f"{url}/v1/models").status_code == 200, "a hung engine still lists its model"
    assert state(host) == "hung"
    seconds = wait_until("the guard ends it", lambda: restarts(host) == 1, 90)
    print(f"{victim}: stopped, restarted within {seconds:.0f} s of the check")
    wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    assert restarts(host) == 1
    assert orphans(host) == set()
    inbox.expect("hang_killed", "recovered")


def test_hang_of_one_api_server_is_repaired(host: Host, url: str, model: str, inbox: Inbox) -> None:
    host.run(f"kill -STOP {host.pid_of(UNIT, 'VLLM::APIServer_0')}")
    assert state(host) == "ready", "the other API server answers every new probe"
    seconds = wait_until("the guard ends it", lambda: restarts(host) == 1, 60)
    print(f"an API server: stopped, restarted within {seconds:.0f} s of the check")
    wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    assert restarts(host) == 1
    assert orphans(host) == set()
    inbox.expect("hang_killed", "recovered")


def test_exhausted_memory_is_repaired(host: Host, url: str, model: str, inbox: Inbox) -> None:
    since = now(host)
    exhaust_memory(host)
    wait_until("systemd restarts it", lambda: restarts(host) == 1, 60)
    wait_until("it answers", lambda: answers(url, model), RECOVERY_SECONDS)
    assert restarts(host) == 1
    assert "for want of memory" in journal(host, since)
    assert orphans(host) == set()
    inbox.expect("restarted", "recovered")


def exhaust_memory(host: Host) -> None:
    """Have the kernel kill a process of the unit, as when it has reached MemoryMax.

    Control groups of version 1 refuse a limit below what is used: another process of the group
    reaches the limit, and the kernel is told to choose vLLM's all the same.
    """
    shown = host.show(UNIT, "ControlGroup", "MemoryCurrent")
    groups = [
        f"/sys/fs/cgroup/memory{shown['ControlGroup']}",
        f"/sys/fs/cgroup{shown['ControlGroup']}",
    ]
    group = host.run(f"ls --directory {' '.join(groups)} 2>/dev/null | head --lines 1", check=False)
    used = host.run(f"grep --extended-regexp '^(total_rss|anon) ' {group}/memory.stat").split()[1]
    limit = int(shown["MemoryCurrent"]) + 64 * MEBIBYTE
    missing = limit - int(used) + 256 * MEBIBYTE
    host.run(f"systemctl set-property --runtime {UNIT} MemoryMax={limit}")
    try:
        host.run(
            f"echo 1000 >/proc/{host.pid_of(UNIT, 'VLLM::Worker')}/oom_score_adj"
            f" && echo $$ >{group}/cgroup.procs"
            f" && exec python3 -c \"len(b'x' * {missing})\"",
            check=False,  # where the guard is quick, systemd kills it with the rest of the unit
        )
    finally:
        # Before the next start has loaded the model.
        host.run(f"systemctl set-property --runtime {UNIT} MemoryMax=infinity")
        host.run(f"rm -r /run/systemd/system.control/{UNIT}.d && systemctl daemon-reload")


def test_wrong_answer_is_told_and_restarts_nothing(host: Host, inbox: Inbox) -> None:
    changed = settings(host)
    changed["gate"]["level"] = "token"
    changed["canary"].update(expect="Berlin", every_minutes=CANARY_MINUTES, restart=False)
    with changed_file(host, SETTINGS, json.dumps(changed)):
        host.run(f"systemctl restart {UNIT}")
        before = host.show(UNIT, "MainPID", "NRestarts", "ActiveState")
        inbox.expect("canary_failed")
        # The next answers are as wrong, and no news.
        time.sleep(2 * CANARY_MINUTES * 60 + 10)
        inbox.expect("canary_failed")
        assert host.show(UNIT, "MainPID", "NRestarts", "ActiveState") == before
    # The guard reads its settings when it starts; the gate then asks the canary itself.
    host.run(f"systemctl restart {UNIT}")
    inbox.expect("canary_failed", "recovered")


def test_bare_unit_shows_the_upstream_defect(host: Host, model: str, inbox: Inbox) -> None:
    """Without the guard, a killed engine is a success for systemd, and nothing restarts it."""
    # Two instances on two cores would starve each other.
    host.run(f"systemctl stop {UNIT}")
    try:
        start_bare_unit(host)
        bare = f"http://{host.address}:{bare_unit.PORT}"
        wait_until("the bare unit answers", lambda: answers(bare, model), RECOVERY_SECONDS)
        host.run(f"kill -KILL {host.pid_of(bare_unit.NAME, 'VLLM::EngineCore')}")
        wait_until(
            "the bare unit ends",
            lambda: host.show(bare_unit.NAME, "ActiveState")["ActiveState"] == "inactive",
            60,
        )
        time.sleep(5)
        shown = host.show(bare_unit.NAME, "ActiveState", "Result", "NRestarts")
        assert shown == {"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}
    finally:
        stop_bare_unit(host)
        host.run(f"systemctl start {UNIT}")
    # Nor is a planned stop and start anything to tell.
    inbox.expect_nothing()
