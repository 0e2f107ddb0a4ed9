"""Every bad input is refused with its remedy, and the service answers throughout.

docs/errors.md shows each message. When one has changed, the last test leaves the new page in
.cache/errors.md.
"""

from __future__ import annotations

import datetime
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import ansible_playbook
import certificates
import errors_page
import httpx
import pytest
import yaml
from bad_input import HOST, INVENTORY, STAGE, Row
from host import Host, wait_until
from host_without_systemd import host_without_systemd
from openai_api import answers, ask

UNITS = ("vllm@smollm2.service", "chainlit.service", "nginx.service")
STAGED = [make() for make in STAGE]
ROWS = [*(make() for make in [*INVENTORY, *HOST]), *STAGED]
# Refused before anything is changed, and nothing on the host is prepared for them.
TOGETHER = [row for row in ROWS if not row.prepare and row not in STAGED]
AT_ONCE = 3
Done = subprocess.CompletedProcess[str]
MESSAGES: dict[str, str] = {}


class Asker(threading.Thread):
    """Asks the service a question every second; `failures` says what did not come."""

    def __init__(self, url: str, model: str) -> None:
        super().__init__(daemon=True)
        self.url, self.model = url, model
        self.ended = threading.Event()
        self.answers = 0
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until ended."""
        while not self.ended.wait(1):
            try:
                assert "Paris" in ask(self.url, self.model)
                self.answers += 1
            except (httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{time.strftime('%X')} {error!r}")


@pytest.fixture(scope="module")
def asker(url: str, model: str) -> Iterator[Asker]:
    wait_until("the service answers", lambda: answers(url, model), 300)
    thread = Asker(url, model)
    thread.start()
    yield thread
    thread.ended.set()
    thread.join()


@pytest.fixture(scope="module")
def untouched(host: Host) -> dict[str, str]:
    """Return what no row may change: the services' invocations and the current releases."""
    return fingerprint(host)


def fingerprint(host: Host) -> dict[str, str]:
    seen = {unit: host.show(unit, "InvocationID")["InvocationID"] for unit in UNITS}
    for service in ("vllm", "chainlit"):
        seen[service] = host.run(f"readlink /opt/gpufleet/{service}/current")
    seen["gateway"] = host.run("sha256sum /etc/nginx/conf.d/gpufleet.conf /etc/nginx/nginx.conf")
    return seen


@pytest.fixture(scope="module", autouse=True)
def material(host: Host) -> Iterator[None]:
    """Lay out what rows need: certificates, a wheel and locks that are not what they should be."""
    today = datetime.datetime.now(datetime.timezone.utc)
    year = datetime.timedelta(days=365)
    certificates.issue(host, "/srv/expired", "llm.example.com", today - 2 * year, today - year)
    certificates.issue(host, "/srv/other", "other.example.com", today - year, today + year)
    lock = (ansible_playbook.ROOT / "files/locks/chat.txt").read_text()
    match = re.search(r"^idna==(\S+).*?(?=^\S)", lock, re.MULTILINE | re.DOTALL)
    assert match, "the chat's lock has no idna"
    small = match.group(0).rstrip()
    folders = {"bad": re.sub("sha256:[0-9a-f]{8}", "sha256:00000000", small), "small": small}
    for name, text in folders.items():
        folder = Path(f"/tmp/gpufleet-{name}-lock/locks")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chat.txt").write_text(text + "\n")
    wheel = f"idna-{match.group(1)}"
    host.run(
        f"mkdir -p /srv/tampered && cd /srv/tampered && mkdir -p {wheel}.dist-info idna"
        f" && printf 'Metadata-Version: 2.1\\nName: idna\\nVersion: {match.group(1)}\\n'"
        f" >{wheel}.dist-info/METADATA && printf 'Wheel-Version: 1.0\\nGenerator: test\\n"
        f"Root-Is-Purelib: true\\nTag: py3-none-any\\n' >{wheel}.dist-info/WHEEL"
        f" && touch {wheel}.dist-info/RECORD idna/__init__.py"
        f" && python3 -m zipfile -c {wheel}-py3-none-any.whl {wheel}.dist-info idna"
    )
    folder = Path("/tmp/gpufleet-nosystemd")
    folder.mkdir(exist_ok=True)
    with host_without_systemd(folder):
        yield
    shutil.rmtree(folder)
    for name in folders:
        shutil.rmtree(f"/tmp/gpufleet-{name}-lock")
    host.run("rm -rf /srv/expired /srv/other /srv/tampered /srv/empty /srv/venvs")


def message_of(output: str) -> str:
    """Return the message of the last task that failed."""
    blocks = re.findall(r"^fatal: .*?FAILED! =>\s*\n((?: .*\n|\n)+)", output, re.MULTILINE)
    assert blocks, output[-3000:]
    return str(yaml.safe_load(blocks[-1])["msg"]).strip()


def site(row: Row) -> Done:
    return ansible_playbook.run("site.yml", row.variables, row.options, row.wrapper)


@pytest.fixture(scope="module")
def together(
    request: pytest.FixtureRequest, asker: Asker, untouched: dict[str, str]
) -> Iterator[dict[str, Future[Done]]]:
    """Run the selected rows that do not disturb each other, some at once: by their titles."""
    selected = {item.name for item in request.session.items}
    rows = [row for row in TOGETHER if f"test_refused[{row.title}]" in selected]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {row.title: pool.submit(site, row) for row in rows}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_refused(
    row: Row,
    host: Host,
    asker: Asker,
    untouched: dict[str, str],
    together: dict[str, Future[Done]],
) -> None:
    if row.title in together:
        done = together[row.title].result()
    else:
        # What is prepared on the host would show in the messages of the others.
        wait(together.values())
        if row.prepare:
            host.run(row.prepare)
        try:
            done = site(row)
        finally:
            if row.undo:
                host.run(row.undo)
    assert done.returncode != 0, "it was accepted"
    message = message_of(done.stdout)
    MESSAGES[row.title] = message
    plain = " ".join(message.split())
    assert [word for word in row.words if word not in plain] == [], message
    assert fingerprint(host) == untouched
    assert asker.failures == []


def test_the_service_answered_throughout(asker: Asker) -> None:
    assert asker.failures == []
    # One for each row or more, of those that run at once together.
    assert asker.answers >= len(ROWS) / AT_ONCE


def test_page_of_errors_is_current() -> None:
    assert list(MESSAGES) == [row.title for row in ROWS], "some rows have not run"
    page = errors_page.render(ROWS, MESSAGES)
    committed = ansible_playbook.ROOT / "docs" / "errors.md"
    if not committed.is_file() or committed.read_text() != page:
        new = ansible_playbook.ROOT / ".cache" / "errors.md"
        new.parent.mkdir(exist_ok=True)
        new.write_text(page)
        pytest.fail(f"docs/errors.md is not current: cp {new.relative_to(new.parents[1])} docs/")
