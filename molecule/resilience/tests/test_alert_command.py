"""The operator's own test of the alerts reaches every service of the inventory."""

from __future__ import annotations

import pytest
from host import Host
from inbox import SERVICES, Inbox


@pytest.mark.usefixtures("healthy")
def test_every_service_gets_the_test_message(host: Host, newer: Host, inbox: Inbox) -> None:
    for one in (host, newer):
        one.run("/usr/local/sbin/llm-alert test")
    texts = inbox.texts()
    assert len(texts) == 2 * len(SERVICES), texts
    for name in ("resilience1", "resilience2"):
        assert sum(name in text for text in texts) == len(SERVICES)
