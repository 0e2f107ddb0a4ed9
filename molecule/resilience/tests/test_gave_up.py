"""An instance that cannot be started ends as failed, and everybody is told once.

So do both versions of systemd: 252 on the host that runs everything, 257 with a fake vLLM.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator

import pytest
from chat_page import ChatPage
from host import Host, wait_until
from inbox import Inbox
from instance import (
    CONFIG,
    CURRENT,
    RESTART_ATTEMPTS,
    RESUME,
    UNIT,
    active,
    changed_file,
    config,
    journal,
    now,
    settings,
    starts,
    vllm_processes,
)
from openai_api import answers
from playwright.sync_api import expect

OpenChat = Callable[[], ChatPage]
# Every attempt imports vLLM, half a minute on two busy cores.
GIVE_UP_SECONDS = 300.0
# The chat calls nothing running for a minute a case for people.
TOLD_MS = 120_000


@pytest.mark.usefixtures("healthy")
def test_refused_options_are_tried_once(
    host: Host, url: str, model: str, inbox: Inbox, open_chat: OpenChat
) -> None:
    chat = open_chat()
    content = f"{host.run(f'cat {CONFIG}')}\nno-such-option: 1"
    since = now(host)
    with changed_file(host, CONFIG, content):
        host.run(f"systemctl restart {UNIT}", check=False)
        wait_until("systemd gives up", lambda: active(host) == "failed", GIVE_UP_SECONDS)
        assert starts(host, since) == 1
        assert "vLLM refuses its options" in journal(host, since)
        expect(chat.banner()).to_have_attribute("data-state", "offline", timeout=TOLD_MS)
        inbox.expect("gave_up")
    resume(host, url, model, inbox, chat, "gave_up")


@pytest.mark.usefixtures("healthy")
def test_crash_at_every_start_is_tried_as_often_as_set(
    host: Host, url: str, model: str, inbox: Inbox, open_chat: OpenChat
) -> None:
    chat = open_chat()
    unreadable = f"{config(host)['model']}/config.json"
    mode = host.run(f"stat --format %a {unreadable}")
    since = now(host)
    host.run(f"chmod 000 {unreadable}")
    try:
        host.run(f"systemctl restart {UNIT}", check=False)
        wait_until("systemd gives up", lambda: active(host) == "failed", GIVE_UP_SECONDS)
        assert starts(host, since) == RESTART_ATTEMPTS
        assert vllm_processes(host) == set()
        expect(chat.banner()).to_have_attribute("data-state", "offline", timeout=TOLD_MS)
        inbox.expect("restarted", "gave_up")
        # Nobody starts it behind the operator's back.
        assert active(host) == "failed"
    finally:
        host.run(f"chmod {mode} {unreadable}")
    resume(host, url, model, inbox, chat, "restarted", "gave_up")


def resume(host: Host, url: str, model: str, inbox: Inbox, chat: ChatPage, *told: str) -> None:
    """Do what the page of the incident says, and see that all are told the end of it."""
    host.run(RESUME)
    assert answers(url, model)
    inbox.expect(*told, "recovered")
    expect(chat.banner()).to_have_attribute("data-state", re.compile("up|hidden"), timeout=TOLD_MS)
    chat.ask("What is the capital of France?")
    expect(chat.page.locator(".ai-message").last).to_contain_text("Paris", timeout=TOLD_MS)


@pytest.fixture
def fake_release(host: Host, newer: Host) -> Iterator[None]:
    """Bring guard and unit of the release to the newer host, with a fake vLLM that ends at once."""
    model = settings(host)["model"]
    pack = f"cd / && tar --create .{CURRENT} .$(readlink --canonicalize {CURRENT})"
    packed = subprocess.run([*host.ssh(), pack], capture_output=True, check=True).stdout
    unpack = "tar --directory / --extract --no-overwrite-dir"
    subprocess.run([*newer.ssh(), unpack], input=packed, check=True)
    newer.run(
        f"mkdir --parents {model} && touch {model}/config.json"
        f" && fake=$(readlink --canonicalize-missing {CURRENT}/venv)/bin/vllm"
        " && mkdir --parents $(dirname $fake)"
        " && printf '#!/bin/sh\\n# A fake: it ends at once, as a broken vLLM.\\nexit 1\\n' >$fake"
        " && chmod 755 $fake"
        f" && cp {CURRENT}/units/* /etc/systemd/system/ && systemctl daemon-reload"
    )
    yield
    newer.run(f"systemctl stop {UNIT} vllm-second-chance@smollm2.timer", check=False)
    newer.run(f"systemctl reset-failed {UNIT}")
    # The fake never recovers, so its incident would last into the next test.
    newer.run("rm --force /var/lib/gpufleet/vllm/incidents/*")


@pytest.mark.usefixtures("healthy", "fake_release")
def test_newer_systemd_tells_it_once(newer: Host, inbox: Inbox) -> None:
    assert newer.run("systemctl --version").startswith("systemd 257")
    since = now(newer)
    newer.run(f"systemctl start {UNIT}", check=False)
    wait_until("systemd gives up", lambda: active(newer) == "failed", 120)
    assert starts(newer, since) == RESTART_ATTEMPTS
    inbox.expect("restarted", "gave_up")
    assert all("resilience2" in text for text in inbox.texts())


@pytest.mark.usefixtures("healthy", "fake_release")
def test_second_chance_starts_it_once_more(newer: Host, inbox: Inbox) -> None:
    """The units are the role's, for a chance after one minute; converge.yml has written them."""
    drop_in = "/etc/systemd/system/vllm@.service.d/second-chance.conf"
    newer.run(
        f"printf '[Unit]\nOnFailure=vllm-second-chance@%%i.timer\n' >{drop_in}"
        " && systemctl daemon-reload"
    )
    try:
        since = now(newer)
        newer.run(f"systemctl start {UNIT}", check=False)
        wait_until("systemd gives up", lambda: active(newer) == "failed", 120)
        assert starts(newer, since) == RESTART_ATTEMPTS
        twice = 2 * RESTART_ATTEMPTS
        wait_until("the second chance is used", lambda: starts(newer, since) == twice, 240)
        wait_until("systemd gives up again", lambda: active(newer) == "failed", 120)
        # It began as one incident; giving up is told each time.
        inbox.expect("restarted", "gave_up", "gave_up")
    finally:
        newer.run(f"rm {drop_in} && systemctl daemon-reload")
