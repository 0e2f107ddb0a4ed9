"""What apprise 2.2.0 leaves to be put right, in one place.

- DingTalk's signature is quoted twice, so that DingTalk refuses it.
- The Chinese robots refuse with status 200 and a code in their answer, a yes for apprise.
- Nothing tells why a service did not take a message.
- A read times out after 4 seconds: a slow service, which takes the message later, gets it twice.
"""

from __future__ import annotations

import threading
from urllib.parse import unquote, urlsplit

import apprise
import requests
from apprise.plugins.dingtalk import NotifyDingTalk

READ_TIMEOUT_SECONDS = 20.0
# Where an answer's own code says whether a message was taken, and the names of that code.
_CODES = ("errcode", "code", "StatusCode")
ROBOTS = ("oapi.dingtalk.com", "qyapi.weixin.qq.com", "open.feishu.cn", "open.larksuite.com")

_last = threading.local()
_quoted_signature = NotifyDingTalk.get_signature


class CheckedSession(requests.Session):
    """A session that fails where a robot refuses, and remembers why a request has failed."""

    def send(self, request: requests.PreparedRequest, **kwargs: object) -> requests.Response:
        """Send a request; raises requests.RequestException, which every plugin takes for a no."""
        try:
            response = super().send(request, **kwargs)
        except requests.RequestException as error:
            _last.reason = _reason_of(error)
            raise
        reason = refusal(response)
        if reason:
            _last.reason = reason
            raise requests.RequestException(reason)
        return response


def apply() -> None:
    """Put the corrections to work for the whole process."""
    # apprise sends with requests.post() and its kin, which take this class for each request.
    requests.sessions.Session = CheckedSession  # type: ignore[misc]
    NotifyDingTalk.get_signature = _signature  # type: ignore[method-assign]
    apprise.URLBase.socket_read_timeout = READ_TIMEOUT_SECONDS


def forget_reason() -> None:
    """Begin a message: what failed before is of no interest."""
    _last.reason = ""


def last_reason() -> str:
    """Why the last request of this thread failed; empty where nothing is known."""
    return str(getattr(_last, "reason", ""))


def refusal(response: requests.Response) -> str:
    """Why a service did not take the message of the request; empty where it did."""
    if response.is_redirect:
        return ""
    if not response.ok:
        return f"HTTP {response.status_code} {response.reason or ''}".strip()
    if urlsplit(response.request.url or "").hostname not in ROBOTS:
        return ""
    try:
        answer = response.json()
        codes = {name: answer[name] for name in _CODES if name in answer}
    except (ValueError, TypeError):
        return "HTTP 200, but with no answer of the robot: is something in between?"
    if codes and all(code == 0 for code in codes.values()):
        return ""
    text = answer.get("errmsg") or answer.get("msg") or answer.get("StatusMessage") or ""
    told = ", ".join(f"{name} {code}" for name, code in codes.items()) or "no code"
    return f"{told}: {text}"


def _signature(robot: NotifyDingTalk) -> tuple[str, str]:
    # requests quotes it too: "%3D" would arrive as "%253D", and DingTalk says "sign not match".
    timestamp, signature = _quoted_signature(robot)  # type: ignore[no-untyped-call]
    return str(timestamp), unquote(signature)


def _reason_of(error: BaseException) -> str:
    # The text of these errors holds the whole URL; only the innermost one is safe to tell.
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    inner: BaseException = error
    while True:
        deeper = inner.__cause__ or inner.__context__
        if deeper is None:
            break
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    return type(inner).__name__
