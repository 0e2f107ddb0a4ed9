"""What the alert services receive from the test hosts; receivers.py of the alerts plays them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import ansible_playbook
import yaml
from host import Host, wait_until
from receivers import Receivers
from tunnel import tunnel

# Those of alerting_urls in the inventory, as the receivers name them.
SERVICES = ("dingtalk", "wecombot", "webhook", "mail")
HTTPS_PORT, MAIL_PORT = 443, 2525
# The tunnel comes back a moment after a boot; a service that did not take a message is asked again
# after pauses that grow.
TOLD_SECONDS = 90.0
# One too many would come by then.
SETTLE_SECONDS = 5.0
# Every message names the page of its kind.
_PAGE = re.compile(r"docs/incidents/(\w+)\.md")
_STATE = "/var/lib/gpufleet"
_WAITING = f"{_STATE}/vllm/incidents {_STATE}/vllm/notices {_STATE}/alert/spool"


class Inbox:
    """The messages of all services since `forget`."""

    def __init__(self, host: Host, receivers: Receivers) -> None:
        self._host = host
        self._receivers = receivers

    def kinds(self) -> dict[str, list[str]]:
        """Return the kinds of notices that each service has received, in their order."""
        return {name: [_kind(got.text) for got in self._receivers.got(name)] for name in SERVICES}

    def texts(self) -> list[str]:
        """Return title and text of every message of every service."""
        return [
            f"{got.title}\n{got.text}" for name in SERVICES for got in self._receivers.got(name)
        ]

    def expect(self, *kinds: str) -> None:
        """Wait for notices of these kinds in this order; each service gets each exactly once.

        Raises AssertionError with what came when that is something else.
        """
        wanted = {name: list(kinds) for name in SERVICES}
        deadline = time.monotonic() + TOLD_SECONDS
        while self.kinds() != wanted and time.monotonic() < deadline:
            time.sleep(0.5)
        time.sleep(SETTLE_SECONDS)
        assert self.kinds() == wanted, "\n\n".join(self.texts())
        assert self._receivers.wrong == [], "a real service would have refused this"

    def expect_nothing(self) -> None:
        """See that nobody is told anything."""
        self.expect()

    def forget(self) -> None:
        """Wait until nothing is left to tell, and forget what came."""
        find = f"find {_WAITING} -name '*.json' 2>/dev/null"
        quiet = "no incident is open and no notice waits"
        wait_until(quiet, lambda: self._host.run(find, check=False) == "", TOLD_SECONDS)
        self._receivers.clear()


@contextmanager
def inboxes(host: Host, *others: Host) -> Iterator[Inbox]:
    """Start the services, and open the way to them from all hosts."""
    # Made by prepare.yml.
    authority = Path(host.key).parents[1] / "ca"
    certificate, key = (authority / f"receivers.test.{suffix}" for suffix in ("pem", "key"))
    with ExitStack() as stack:
        receivers = stack.enter_context(Receivers(certificate, key, _dingtalk_secret()))
        ports = {HTTPS_PORT: receivers.port, MAIL_PORT: receivers.smtp_port}
        for one in (host, *others):
            stack.enter_context(tunnel(one, ports))
        yield Inbox(host, receivers)


def _kind(text: str) -> str:
    found = _PAGE.search(text)
    return found.group(1) if found else f"no kind in: {text}"


def _dingtalk_secret() -> str:
    document = yaml.safe_load((ansible_playbook.inventory() / "hosts.yml").read_text())
    urls = document["all"]["vars"]["alerting_urls"]
    (url,) = (url for url in urls if url.startswith("dingtalk://"))
    return str(urlsplit(url).username)
