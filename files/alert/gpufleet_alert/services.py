"""The services that alerts go to, from their URLs, and how one message is sent to one of them."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

import apprise
from apprise import NotifyBase
from apprise.plugins.email.base import NotifyEmail

from gpufleet_alert import corrections
from gpufleet_alert.logs import log
from gpufleet_alert.message import Message
from gpufleet_alert.redact import without

# Schemes whose host is one and no secret.
_REAL_HOST = ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos", "http", "https")
# Where the others lead to.
_HOSTS = {
    "dingtalk": "oapi.dingtalk.com",
    "wecombot": "qyapi.weixin.qq.com",
    "feishu": "open.feishu.cn",
    "lark": "open.larksuite.com",
    "slack": "hooks.slack.com",
}
_TYPES = {
    "recovered": apprise.NotifyType.SUCCESS,
    "test": apprise.NotifyType.INFO,
    "gave_up": apprise.NotifyType.FAILURE,
}
# Shorter parts of a URL stand in other texts too.
_LEAST_SECRET = 5


@dataclass(frozen=True)
class Service:
    """One service: `id` stays the same when its key changes, `label` tells people which it is."""

    id: str
    label: str
    plugin: NotifyBase
    secrets: tuple[str, ...]

    def send(self, message: Message) -> str:
        """Send one message; return why it was not taken, or an empty text."""
        corrections.forget_reason()
        with _Excuse() as excuse:
            try:
                # In this thread: apprise's own would give up after a minute, and go on sending.
                taken = self.plugin.notify(
                    body=message.body,
                    title=message.title,
                    notify_type=_TYPES.get(message.kind, apprise.NotifyType.WARNING),
                    body_format=apprise.NotifyFormat.TEXT,
                )
            except Exception as error:  # a plugin's mistake must not end the delivery to others
                return f"apprise failed: {type(error).__name__}"
        if taken:
            return ""
        return without(corrections.last_reason() or excuse.text or "not taken", self.secrets)


class Services:
    """All services of a text with one URL a line; `problems` names the lines that are none."""

    def __init__(self, urls: str) -> None:
        """Read the URLs. What is wrong with one is told without it."""
        corrections.apply()
        self.problems: list[str] = []
        self._services: list[Service] = []
        count: Counter[str] = Counter()
        lines = [line.strip() for line in urls.splitlines() if line.strip()]
        for number, url in enumerate(lines, 1):
            scheme = url.partition("://")[0].lower()
            plugin = _plugin(url)
            if plugin is None:
                self.problems.append(f"URL {number} of alerting_urls is none that apprise knows")
                continue
            count[scheme] += 1
            label, secrets = _label(scheme, url), _secrets(url)
            for part, single in enumerate(_singles(plugin), 1):
                name = f"{scheme}-{count[scheme]}{f'-{part}' if part > 1 else ''}"
                self._services.append(Service(name, label, single, secrets))

    def __iter__(self) -> Iterator[Service]:
        """All services, in the order of their lines."""
        return iter(self._services)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all services."""
        return tuple(service.id for service in self)


class _Excuse(logging.Handler):
    """Keeps what apprise says of the socket that failed, since mail does not pass by requests."""

    _BEGINNING = "Socket Exception: "

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def __enter__(self) -> _Excuse:
        self.acquire()
        logger = logging.getLogger("apprise")
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self)
        self._thread = logging.LogRecord("", 0, "", 0, "", None, None).thread
        self.release()
        return self

    def __exit__(self, *_error: object) -> None:
        logging.getLogger("apprise").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the end of the line, of this thread alone."""
        text = record.getMessage()
        if record.thread == self._thread and text.startswith(self._BEGINNING):
            self.text = text.removeprefix(self._BEGINNING)


def tell_problems(services: Services) -> None:
    """Say which URLs cannot be used."""
    for problem in services.problems:
        log.error("%s; it gets no alerts until it is corrected", problem)


def _plugin(url: str) -> NotifyBase | None:
    # apprise quotes the URL that it refuses.
    logging.getLogger("apprise").propagate = False
    asset = apprise.AppriseAsset(async_mode=False, app_id="gpufleet", app_desc="gpufleet")
    plugin = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if plugin is not None:
        # One message a notice, whatever the URL says.
        plugin.overflow_mode = apprise.OverflowMode.TRUNCATE
    return plugin


def _singles(plugin: NotifyBase) -> Iterator[NotifyBase]:
    """A plugin for each recipient of mail: of several, apprise does not tell who lacks it."""
    if not isinstance(plugin, NotifyEmail) or len(plugin.targets) < 2:
        yield plugin
        return
    for target in plugin.targets:
        single = copy.copy(plugin)
        single.targets = [target]
        yield single


def _label(scheme: str, url: str) -> str:
    if scheme not in _REAL_HOST:
        return f"{scheme}://{_HOSTS.get(scheme, '')}"
    try:
        return f"{scheme}://{urlsplit(url).hostname or ''}"
    except ValueError:
        return f"{scheme}://"


def _secrets(url: str) -> tuple[str, ...]:
    """Every part of a URL that may be one."""
    scheme, _colon, rest = url.partition("://")
    before, _mark, query = rest.partition("?")
    login, _at, place = before.rpartition("@")
    parts = [*login.split(":"), *place.split("/"), *(value for _name, value in parse_qsl(query))]
    if scheme.lower() in _REAL_HOST:
        parts.remove(place.split("/")[0])
    both = {text for part in parts for text in (part, unquote(part))}
    return tuple(sorted(text for text in both if len(text) >= _LEAST_SECRET))
