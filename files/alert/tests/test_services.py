"""Each service takes one message in its documented form, and a no is never taken for a yes."""

from __future__ import annotations

import logging
from collections.abc import Callable

import apprise
import pytest
from conftest import DINGTALK_SECRET, HOOK
from gpufleet_alert.message import MAX_BYTES, Message
from gpufleet_alert.services import Services
from receivers import SERVICES, Failure, Receivers

Make = Callable[..., Services]
BODY = "What: <died> & more\nUnit: vllm@smollm2.service"
MESSAGE = Message("gave_up", "gpu1: smollm2 is down", BODY)


def send(services: Services, message: Message = MESSAGE) -> str:
    (service,) = services
    return service.send(message)


@pytest.mark.parametrize("name", SERVICES)
def test_takes_one_message(name: str, services: Make, them: Receivers) -> None:
    assert send(services(name)) == ""
    assert them.wrong == []
    (got,) = them.got(name)
    assert "smollm2 is down" in got.title
    assert "died" in got.text
    assert "vllm@smollm2.service" in got.text


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize("failure", [Failure.REFUSE, Failure.ERROR])
def test_no_is_no(name: str, failure: Failure, services: Make, them: Receivers) -> None:
    them.fail(name, failure)
    reason = send(services(name))
    robot = name in ("dingtalk", "wecombot", "feishu")
    code = "451" if name == "mail" else "310000" if robot and failure is Failure.REFUSE else "500"
    assert reason
    # apprise keeps from us what a mail server said.
    assert code in reason or name == "mail"
    assert them.got(name) == []
    assert send(services(name)) == ""


def test_dingtalks_signature(them: Receivers, urls: dict[str, str]) -> None:
    wrong = urls["dingtalk"].replace(DINGTALK_SECRET, "SECother")
    assert "sign not match" in send(Services(wrong))
    # Whatever the time, and with it the signature's characters, is.
    for _ in range(20):
        (service,) = Services(urls["dingtalk"])
        assert service.send(MESSAGE) == ""


def test_no_answer_of_the_robot(
    them: Receivers, services: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("receivers")._CONSENT, "wecombot", {"login": "please"})
    assert "no code" in send(services("wecombot"))


@pytest.mark.parametrize("name", ["dingtalk", "webhook"])
def test_hanging(
    name: str, services: Make, them: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = services(name)
    monkeypatch.setattr(apprise.URLBase, "socket_read_timeout", 0.3)
    them.fail(name, Failure.HANG)
    assert send(made) == "no answer in time"


def test_waits_longer_than_apprise(services: Make) -> None:
    (service,) = services("dingtalk")
    assert service.plugin.socket_read_timeout == 20


@pytest.mark.parametrize("name", ["dingtalk", "webhook"])
def test_untrusted_certificate(name: str, services: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")
    assert "certificate" in send(services(name)).lower()


def test_nobody_there() -> None:
    assert send(Services("json://127.0.0.1:9/secret-path")) == "Connection refused"
    assert "refused" in send(Services("mailto://localhost:9/?from=a@example.com&to=b@example.com"))


def test_longest_message(services: Make, them: Receivers) -> None:
    title = "gpu1: 模型"
    body = "模" * ((MAX_BYTES - len(title.encode()) - 2) // 3)
    assert send(services("wecombot"), Message("restarted", title, body)) == ""
    (got,) = them.got("wecombot")
    assert got.text == body
    assert them.wrong == []


def test_never_splits(them: Receivers) -> None:
    assert send(Services("wecombot://key?overflow=split"), Message("test", "a", "b" * 9000)) == ""
    assert len(them.got("wecombot")) == 1


def test_names_and_problems(urls: dict[str, str]) -> None:
    mine = ["dingtalk://othersecret@othertoken", "nope://secret", urls["webhook"], "not a url"]
    services = Services("\n".join([urls["dingtalk"], *mine]))
    assert services.ids == ("dingtalk-1", "dingtalk-2", "jsons-1")
    assert [service.label for service in services] == [
        "dingtalk://oapi.dingtalk.com",
        "dingtalk://oapi.dingtalk.com",
        f"jsons://{HOOK}",
    ]
    assert len(services.problems) == 2
    assert "URL 3 " in services.problems[0]
    assert not any("secret" in problem for problem in services.problems)


def test_nothing_tells_a_secret(
    them: Receivers,
    urls: dict[str, str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in reasons, and not in lines of apprise, whatever their level."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.addFilter(lambda record: not record.name.startswith("urllib3"))
    monkeypatch.setattr(handler, "emit", lambda record: lines.append(record.getMessage()))
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.DEBUG)
    monkeypatch.setattr(root, "handlers", [handler])
    logging.getLogger("another").warning("seen")
    gone = "jsons://me:hidden-password@127.0.0.1:9/hidden-path?token=hidden-token"
    reasons = [send(Services(gone)), send(Services("mailtos://u:hidden-word@localhost:9/b@c.com"))]
    for name in ("dingtalk", "wecombot", "feishu"):
        them.fail(name, Failure.REFUSE)
        reasons.append(send(Services(urls[name])))
    Services("nope://hidden-url")
    Services("dingtalk://hid+den@hidden/")
    told = " ".join([*reasons, *capfd.readouterr(), *lines])
    assert "seen" in told
    for secret in (
        "hidden",
        "hid+den",
        DINGTALK_SECRET,
        "tokenofding",
        "key-of-wecom",
        "tokenoffei",
    ):
        assert secret not in told
