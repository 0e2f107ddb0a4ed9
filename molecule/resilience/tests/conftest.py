"""What the tests of this scenario share: the host, who is told, and a browser."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

sys.path.extend(
    str(Path(__file__).resolve().parents[3] / folder)
    for folder in (
        "molecule/test_hosts",
        "molecule/resilience/tests",
        "tests/browser",
        "files/alert/tests",
    )
)

from chat_page import CHROMIUM, CHROMIUM_FLAGS, ChatPage
from host import Host, wait_until
from inbox import Inbox, inboxes
from instance import RECOVERY_SECONDS, UNIT
from openai_api import answers


@pytest.fixture(scope="session")
def host() -> Host:
    """Return the host that runs everything."""
    return Host.from_environment()


@pytest.fixture(scope="session")
def newer(host: Host) -> Host:
    """Return the host with the newer systemd."""
    return replace(host, address="10.89.87.41", container="gpufleet-resilience2")


@pytest.fixture(scope="session")
def url(host: Host) -> str:
    """Return the address of the gateway."""
    return f"http://{host.address}"


@pytest.fixture(scope="session")
def model() -> str:
    """Return the served model name of inventories/local."""
    return "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def inbox(host: Host, newer: Host) -> Iterator[Inbox]:
    """Return what the alert services receive from both hosts."""
    with inboxes(host, newer) as received:
        yield received


@pytest.fixture
def healthy(host: Host, url: str, model: str, inbox: Inbox) -> Iterator[None]:
    """Begin and end with a service that answers, a fresh start limit and nothing left to tell."""
    host.run(f"systemctl reset-failed {UNIT}")
    wait_until("the service answers", lambda: answers(url, model), RECOVERY_SECONDS)
    inbox.forget()
    yield
    wait_until("the service answers again", lambda: answers(url, model), RECOVERY_SECONDS)


@pytest.fixture(scope="module")
def open_chat(url: str) -> Iterator[Callable[[], ChatPage]]:
    """Open the chat as a person with a fresh browser profile."""
    contexts: list[BrowserContext] = []

    def open_page() -> ChatPage:
        contexts.append(browser.new_context(locale="en-US"))
        page = ChatPage(contexts[-1].new_page(), f"{url}/")
        page.open()
        return page

    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield open_page
        for context in contexts:
            context.close()
        browser.close()
