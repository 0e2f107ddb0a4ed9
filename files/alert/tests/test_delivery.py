"""From a notice's file to every service, whatever fails on the way."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gpufleet_alert import files
from gpufleet_alert import notice as notices
from gpufleet_alert.delivery import Delivery, pauses
from gpufleet_alert.files import visible
from gpufleet_alert.message import compose
from gpufleet_alert.notice import Notice
from gpufleet_alert.services import Services
from gpufleet_alert.settings import Settings
from gpufleet_alert.spool import Entry, Spool
from receivers import SERVICES, Failure, Receivers

Make = Callable[..., Notice]
MakeServices = Callable[..., Services]
SOON = 10


@pytest.fixture(autouse=True)
def lines(caplog: pytest.LogCaptureFixture) -> None:
    """All our lines are kept."""
    caplog.set_level("INFO", "gpufleet_alert")


def leave(settings: Settings, *made: Notice) -> None:
    for notice in made:
        notices.write(notice, settings.notices[0])


def deliver(settings: Settings, services: Services) -> Delivery:
    delivery = Delivery(settings, services, first_pause=0.05)
    delivery.run()
    return delivery


@contextmanager
def running(settings: Settings, services: Services, first_pause: float) -> Iterator[Delivery]:
    delivery = Delivery(settings, services, first_pause)
    thread = threading.Thread(target=delivery.run)
    thread.start()
    try:
        yield delivery
    finally:
        delivery.stopping.set()
        thread.join(SOON)
    assert not thread.is_alive()


def left(settings: Settings) -> list[Path]:
    return [path for folder in (*settings.sources, settings.spool) for path in visible(folder)]


def test_every_service_gets_one(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    other = notice(kind="recovered", since=1.0)
    leave(settings, notice(), other, notice(kind="gave_up", since=1.0))
    deliver(settings, services(*SERVICES))
    for name in SERVICES:
        assert len(them.got(name)) == 2, name
        assert "restarted" in them.got(name)[0].title
        assert "stays down" in them.got(name)[1].title
    assert them.wrong == []
    assert left(settings) == []


def test_one_that_fails_gets_it_later_and_holds_up_nobody(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    for number, failure in enumerate([Failure.REFUSE, Failure.ERROR, Failure.REFUSE]):
        them.fail("dingtalk", failure, times=1 + number)
    leave(settings, notice(kind="restarted"), notice(kind="gave_up"))
    with running(settings, services("dingtalk", "webhook", "mail"), 0.05):
        assert len(them.wait_for("webhook", 2, 1.5)) == 2
        assert len(them.wait_for("mail", 2, 2)) == 2
        assert them.got("dingtalk") == []
        got = them.wait_for("dingtalk", 2, 30)
    assert ["restarted" in got[0].title, "stays down" in got[1].title] == [True, True]
    assert len([name for name, _at in them.attempts if name == "dingtalk"]) == 2 + 6
    assert len(them.got("webhook")) == len(them.got("mail")) == 2
    assert left(settings) == []


def test_message_that_is_refused_for_its_content_holds_up_none_after_it(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    them.forbidden.add("restarted")
    kinds = ("restarted", "gave_up", "recovered")
    now = time.time()
    leave(settings, *(notice(kind=kind, since=1.0, at=now + at) for at, kind in enumerate(kinds)))
    with running(settings, services("dingtalk"), 0.05):
        got = them.wait_for("dingtalk", 2, SOON)
        assert ["stays down" in got[0].title, "works again" in got[1].title] == [True, True]
        (entry,) = Spool(settings.spool).entries
        assert "restarted" in entry.message.title
        them.forbidden.clear()
        assert len(them.wait_for("dingtalk", 3, SOON)) == 3
    assert left(settings) == []


def test_recipient_who_is_refused_doubles_no_mail_to_the_others(
    settings: Settings, notice: Make, them: Receivers
) -> None:
    to = "to=gone@example.com,ops@example.com"
    both = Services(f"mailto://localhost:{them.smtp_port}/?from=host@example.com&{to}")
    them.forbidden.add("gone@example.com")
    leave(settings, notice())
    with running(settings, both, 0.05):
        them.wait_for("mail", 1, SOON)
        time.sleep(1)  # it is tried again and again
        assert len(them.got("mail")) == 1
        (entry,) = Spool(settings.spool).entries
        assert len(entry.waiting) == 1
        them.forbidden.clear()
        assert len(them.wait_for("mail", 2, SOON)) == 2
    assert left(settings) == []


def test_what_waits_survives(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    them.fail("wecombot", Failure.REFUSE, times=50)
    leave(settings, notice())
    with running(settings, services("wecombot", "webhook"), 30):
        assert them.wait_for("webhook", 1, SOON)
        while not them.attempts:
            time.sleep(0.01)
        assert [entry.waiting for entry in Spool(settings.spool).entries][-1:] != []
    (entry,) = Spool(settings.spool).entries
    assert entry.waiting == ("wecombot-1",)
    them.clear()
    deliver(settings, services("wecombot", "webhook"))
    assert len(them.got("wecombot")) == 1
    assert them.got("webhook") == []
    assert left(settings) == []


def test_new_notices_are_sent_while_others_wait(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    them.fail("dingtalk", Failure.ERROR, times=50)
    leave(settings, notice())
    with running(settings, services("dingtalk", "webhook"), 60):
        assert len(them.wait_for("webhook", 1, SOON)) == 1
        leave(settings, notice(kind="gave_up"))
        assert len(them.wait_for("webhook", 2, 2)) == 2


def test_nothing_is_left_behind(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = settings.notices[0]
    good = json.dumps(dataclasses.asdict(notice()))
    folder.mkdir()
    for number, text in enumerate(
        ["", "{", "[]", "{}", "null", "[" * 50000, good.replace("restarted", "mystery"),
         good.replace('"restarts": 1', '"restarts": true'), good.replace('"at": 1', '"at": 1e300'),
         good.replace('"vllm@smollm2.service"', "7"), " " * 100000]
    ):  # fmt: skip
        (folder / f"{number:020d}-bad.json").write_text(text)
    (folder / "binary").write_bytes(bytes(range(256)))
    (folder / "folder").mkdir()
    (folder / "folder" / "file").write_text("x")
    (folder / "link").symlink_to("/etc/hostname")
    os.mkfifo(folder / "fifo")
    (folder / ".being-written").write_text(good)
    settings.spool.mkdir(parents=True)
    (settings.spool / "bad.json").write_text("{}")
    leave(settings, notice())
    deliver(settings, services("webhook"))
    assert len(them.got("webhook")) == 1
    assert left(settings) == []
    assert (folder / ".being-written").exists()
    assert caplog.text.count("removed ") == 16


def test_too_old_is_dropped(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = time.time()
    them.fail("webhook", Failure.ERROR, times=50)
    leave(settings, notice(at=now - 7 * 86400 - 1), notice(kind="gave_up", at=now - 7 * 86400 + 60))
    with running(settings, services("webhook"), 0.05):
        time.sleep(1)
        (entry,) = Spool(settings.spool).entries
    assert "stays down" in entry.message.title
    assert "dropped for jsons-1 after 7 days: gpu1: smollm2 failed" in caplog.text


def test_service_that_is_gone(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    them.fail("dingtalk", Failure.ERROR, times=50)
    leave(settings, notice())
    with running(settings, services("dingtalk", "webhook"), 60):
        them.wait_for("webhook", 1, SOON)
    deliver(settings, services("webhook"))
    assert left(settings) == []
    assert len(them.got("webhook")) == 1


def test_new_key_of_a_service(
    settings: Settings, urls: dict[str, str], notice: Make, them: Receivers
) -> None:
    """Who corrects a URL gets what has waited."""
    leave(settings, notice())
    wrong = urls["dingtalk"].replace("SEC", "WRONG")
    with running(settings, Services(wrong), 60):
        deadline = time.monotonic() + SOON
        while not them.wrong and time.monotonic() < deadline:
            time.sleep(0.01)
    assert them.got("dingtalk") == []
    deliver(settings, Services(urls["dingtalk"]))
    assert len(them.got("dingtalk")) == 1


def test_many_restarts(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    now = time.time()
    for minute in (0, 1, 2, 16):
        leave(settings, notice(since=now + minute * 60, at=now + minute * 60))
        leave(settings, notice(kind="recovered", since=now + minute * 60, at=now + minute * 60 + 9))
    deliver(settings, services("webhook"))
    got = them.got("webhook")
    told = [("works again" in one.title, "Not sent before" in one.text) for one in got]
    assert told == [(False, False), (True, False), (False, True), (True, False)]
    assert "of the same sort: 2" in got[2].text


def test_without_services(
    settings: Settings, notice: Make, caplog: pytest.LogCaptureFixture
) -> None:
    leave(settings, notice(what="it died\nof token=abcdef"))
    deliver(settings, Services(""))
    assert left(settings) == []
    (line,) = caplog.messages
    assert "restarted vllm@smollm2.service: it died of token=***" in line
    assert "nobody is told" in line


def test_crash_between_spool_and_notice(
    settings: Settings, services: MakeServices, notice: Make, them: Receivers
) -> None:
    """A notice that is in the spool already is not taken in twice."""
    leave(settings, notice(kind="gave_up"))
    (path,) = visible(settings.notices[0])
    content = path.read_bytes()
    them.fail("dingtalk", Failure.ERROR)
    with running(settings, services("webhook", "dingtalk"), 60):
        assert them.wait_for("webhook", 1, SOON)
    assert len(visible(settings.spool)) == 1
    path.write_bytes(content)
    deliver(settings, services("webhook", "dingtalk"))
    assert len(them.got("webhook")) == len(them.got("dingtalk")) == 1
    assert left(settings) == []


def test_disk_full(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A notice that cannot be kept stays where it is, and is not counted as sent."""
    real = Spool.add
    calls = itertools.count()

    def full(spool: Spool, entry: object) -> None:
        if next(calls) < 2:
            raise OSError(28, "No space left on device")
        real(spool, entry)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "add", full)
    leave(settings, notice())
    deliver(settings, services("webhook"))
    assert len(them.got("webhook")) == 1
    assert left(settings) == []


def test_pauses_grow() -> None:
    assert list(itertools.islice(pauses(5), 8)) == [5, 10, 20, 40, 80, 160, 300, 300]


def refuse_to_remove(monkeypatch: pytest.MonkeyPatch, module: str, folder: Path) -> threading.Event:
    """Have `remove` of the module fail for files in a folder, until the event is set."""
    writable = threading.Event()

    def remove(path: Path) -> None:
        if path.parent == folder and not writable.is_set():
            raise OSError(errno.EROFS, "Read-only file system")
        files.remove(path)

    monkeypatch.setattr(f"gpufleet_alert.{module}.remove", remove)
    return writable


def test_sent_once_where_the_spool_cannot_be_changed(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It does not end with the file left, since llm-alert.path would start it again at once."""
    monkeypatch.setattr("gpufleet_alert.delivery.TIDY_EVERY_SECONDS", 0.05)
    writable = refuse_to_remove(monkeypatch, "spool", settings.spool)
    leave(settings, notice())
    delivery = Delivery(settings, services("webhook"), first_pause=0.05)
    thread = threading.Thread(target=delivery.run)
    thread.start()
    assert them.wait_for("webhook", 1, SOON)
    time.sleep(1.5)
    assert thread.is_alive()
    assert len(them.got("webhook")) == 1
    assert len(visible(settings.spool)) == 1
    writable.set()
    thread.join(SOON)
    assert not thread.is_alive()
    assert len(them.got("webhook")) == 1
    assert left(settings) == []
    (line,) = (text for text in caplog.messages if text.startswith("cannot change"))
    assert str(settings.spool) in line
    assert "Read-only file system; make its file system writable" in line


def test_entry_that_cannot_be_written(
    settings: Settings, notice: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service that has it is struck at once, and from the file later."""
    spool = Spool(settings.spool)
    message = compose(notice(), "gpu1", 0, [])
    spool.add(Entry("one", time.time(), message, ("jsons-1", "dingtalk-2")))

    def full(path: Path, data: object) -> None:
        raise OSError(errno.ENOSPC, f"No space left on device for {data} in {path}")

    monkeypatch.setattr("gpufleet_alert.spool.write_json", full)
    spool.done("one", "jsons-1")
    assert (spool.next_for("jsons-1"), spool.stale) == (None, True)
    assert Spool(settings.spool).next_for("jsons-1")
    monkeypatch.undo()
    spool.tidy()
    assert not spool.stale
    assert Spool(settings.spool).next_for("jsons-1") is None
    assert Spool(settings.spool).next_for("dingtalk-2")


def test_dropped_where_the_spool_cannot_be_changed(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is too old, is for a service that is gone, or is no entry does not end the program."""
    message = compose(notice(), "gpu1", 0, [])
    spool = Spool(settings.spool)
    spool.add(Entry("gone", time.time(), message, ("slack-1",)))
    spool.add(Entry("old", time.time() - 8 * 86400, message, ("jsons-1",)))
    (settings.spool / "bad.json").write_text("{}")
    refuse_to_remove(monkeypatch, "spool", settings.spool)
    leave(settings, notice())
    with running(settings, services("webhook"), 0.05):
        assert them.wait_for("webhook", 1, SOON)
        time.sleep(1)
    assert len(them.got("webhook")) == 1
    assert caplog.text.count("dropped for") == 2
    assert caplog.text.count("cannot change") == 4


def test_sent_once_where_the_notice_cannot_be_removed(
    settings: Settings,
    services: MakeServices,
    notice: Make,
    them: Receivers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_to_remove(monkeypatch, "delivery", settings.notices[0])
    leave(settings, notice(kind="gave_up"))
    with running(settings, services("webhook"), 0.05):
        assert them.wait_for("webhook", 1, SOON)
        time.sleep(2)
    assert len(them.got("webhook")) == 1
    assert visible(settings.spool) == []
