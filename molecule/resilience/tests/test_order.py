"""What depends on what: nothing at run time. Each service starts, stops and boots by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest
from chat_page import ChatPage
from host import Host, wait_until
from inbox import Inbox
from instance import (
    RECOVERY_SECONDS,
    RESTART_ATTEMPTS,
    RESUME,
    UNIT,
    active,
    config,
    journal,
    now,
    starts,
)
from openai_api import answers
from playwright.sync_api import expect

pytestmark = pytest.mark.usefixtures("healthy")
OpenChat = Callable[[], ChatPage]
UNITS = ("nginx.service", "chainlit.service", UNIT)
CACHE = "/var/cache/gpufleet/smollm2"
QUESTION = "What is the capital of France?"


def status(url: str) -> int:
    """Return the status of a page; 0 when nobody answers."""
    try:
        return httpx.get(url, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def entered(host: Host, unit: str) -> int:
    """Return when the unit became active, in microseconds of the machine's clock."""
    name = "ActiveEnterTimestampMonotonic"
    return int(host.show(unit, name)[name])


@pytest.mark.parametrize("unit", UNITS)
def test_each_stops_and_starts_alone(
    host: Host, url: str, model: str, inbox: Inbox, unit: str
) -> None:
    others = {other: host.show(other, "MainPID") for other in UNITS if other != unit}
    for action in ("stop", "start"):
        host.run(f"systemctl {action} {unit}")
        assert {other: host.show(other, "MainPID") for other in others} == others
    wait_until("the service answers", lambda: answers(url, model), 60)
    # What is asked for is no incident.
    inbox.expect_nothing()


def test_restart_of_the_host_brings_back_all(
    host: Host, url: str, model: str, inbox: Inbox, open_chat: OpenChat
) -> None:
    host.shut_down()
    host.boot()
    wait_until("the chat's page is served", lambda: status(f"{url}/") == 200, 60)
    assert active(host) == "activating", "the page has waited for the model"
    assert status(f"{url}/v1/health") == 503
    chat = open_chat()
    expect(chat.banner()).to_have_attribute("data-state", "down", timeout=20_000)
    expect(chat.banner()).to_contain_text("recovering")
    wait_until("the model answers", lambda: answers(url, model), RECOVERY_SECONDS)
    # Its gate lets others in a moment before systemd sees its end.
    wait_until("the unit is active", lambda: active(host) == "active", 30)
    model_at = entered(host, UNIT)
    assert entered(host, "nginx.service") < model_at
    assert entered(host, "chainlit.service") < model_at
    expect(chat.banner()).to_have_attribute("data-state", re.compile("up|hidden"), timeout=20_000)
    chat.ask(QUESTION)
    expect(chat.page.locator(".ai-message").last).to_contain_text("Paris", timeout=60_000)
    inbox.expect_nothing()


@dataclass(frozen=True)
class Obstacle:
    """What is in the way of a boot; `says` are words of the journal, the remedy among them."""

    prepare: Callable[[Host], str]
    undo: Callable[[Host], str]
    says: tuple[str, ...]
    starts: int
    told: tuple[str, ...]


def service(*lines: str) -> Callable[[Host], str]:
    """Return the command that has a service of these lines start before the instance."""
    unit = "\\n".join(
        ["[Unit]", f"Before={UNIT}", "[Service]", *lines, "[Install]", "WantedBy=multi-user.target"]
    )
    place = "/etc/systemd/system/obstacle.service"
    return lambda host: f"printf '{unit}\\n' >{place} && systemctl enable --quiet obstacle"


def no_service(host: Host) -> str:
    """Return the command that removes it."""
    return "systemctl disable --quiet --now obstacle && rm /etc/systemd/system/obstacle.service"


OBSTACLES = {
    "model directory missing": Obstacle(
        prepare=lambda host: f"mv {config(host)['model']} {config(host)['model']}.away",
        undo=lambda host: f"mv {config(host)['model']}.away {config(host)['model']}",
        says=("the model is not at", "playbooks/stage.yml"),
        # Only a person can mend it.
        starts=1,
        told=("gave_up",),
    ),
    "disk full": Obstacle(
        prepare=service(
            "Type=oneshot",
            "RemainAfterExit=yes",
            f"ExecStart=/usr/bin/mount -t tmpfs -o size=1m,mode=0700 none {CACHE}",
            f"ExecStart=-/usr/bin/dd if=/dev/zero of={CACHE}/full bs=64k",
            f"ExecStop=/usr/bin/umount {CACHE}",
        ),
        undo=no_service,
        says=(f"the disk of {CACHE} is full", "df -h"),
        starts=RESTART_ATTEMPTS,
        told=("restarted", "gave_up"),
    ),
    "port taken": Obstacle(
        prepare=service(
            "ExecStart=/usr/bin/python3 -m http.server 8000 --bind 127.0.0.1",
            'ExecStartPost=/bin/sh -c "until ss -Hltn sport = :8000 | grep -q .; do sleep 1; done"',
        ),
        undo=no_service,
        says=("port 8000 is taken", "ss -ltnp"),
        starts=RESTART_ATTEMPTS,
        told=("restarted", "gave_up"),
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_boot_with_an_obstacle(host: Host, url: str, model: str, inbox: Inbox, name: str) -> None:
    obstacle = OBSTACLES[name]
    host.run(obstacle.prepare(host))
    try:
        since = now(host)
        host.shut_down()
        host.boot()
        wait_until("systemd gives up", lambda: active(host) == "failed", RECOVERY_SECONDS)
        assert starts(host, since) == obstacle.starts
        said = journal(host, since)
        assert [words for words in obstacle.says if words not in said] == []
        # The others go on.
        wait_until("the chat's page is served", lambda: status(f"{url}/") == 200, 60)
        assert status(f"{url}/v1/health") == 503
        inbox.expect(*obstacle.told)
    finally:
        host.run(obstacle.undo(host))
    host.run(RESUME)
    assert answers(url, model)
    inbox.expect(*obstacle.told, "recovered")
