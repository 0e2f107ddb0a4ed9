"""The settings of one release, read once at start and refused with a remedy when wrong."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gpufleet_chat.looks import THEMES, LooksError, check_color, read_logo


class SettingsError(Exception):
    """A setting is missing, unknown or out of range; the message ends with the remedy."""


@dataclass(frozen=True)
class Retry:
    """How a request that got no byte is repeated; delays double between the two bounds."""

    attempts: int = 4
    first_delay_seconds: float = 0.5
    max_delay_seconds: float = 5.0


@dataclass(frozen=True)
class MonitorSettings:
    """How the health of the back end is watched; failures is the number in a row that is down."""

    interval_seconds: float = 2.0
    timeout_seconds: float = 3.0
    failures: int = 3


@dataclass(frozen=True)
class Settings:
    """All settings; the field names are the keys of settings.json."""

    upstream_url: str
    state_directory: str
    listen_address: str = "127.0.0.1"
    port: int = 7860
    root_path: str = ""
    title: str = "Chat"
    logo_path: str | None = None
    primary_color: str = "#0f766e"
    theme: str = "system"
    upstream_ca_path: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    max_tokens: int = 1024
    temperature: float | None = None
    settings_panel: bool = True
    upload_max_mib: int = 10
    message_max_chars: int = 100_000
    request_timeout_seconds: float = 60.0
    recovery_wait_seconds: float = 900.0
    drain_seconds: float = 60.0
    session_keep_seconds: int = 3600
    messages_per_minute: int = 10
    concurrent_answers: int = 64
    queue_length: int = 100
    questions_per_person: int = 5
    login: str = "none"
    login_session_hours: int = 168
    login_header: str = "X-Forwarded-User"
    login_secret_header: str = "X-Login-Secret"  # noqa: S105
    login_oauth_allowed: tuple[str, ...] = ()
    gateway_addresses: tuple[str, ...] = ("127.0.0.1",)
    history_days: int = 0
    history_database: str = "sqlite"
    retry: Retry = field(default_factory=Retry)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

    @property
    def keeps_history(self) -> bool:
        """Whether conversations are kept: where people log in, for only they can be told apart."""
        return self.login != "none"


@dataclass(frozen=True)
class Secrets:
    """What must never stand in settings.json; each is None when its file is absent."""

    api_key: str | None = field(default=None, repr=False)
    auth_secret: str | None = field(default=None, repr=False)
    users: str | None = field(default=None, repr=False)
    login_secret: str | None = field(default=None, repr=False)
    oauth: str | None = field(default=None, repr=False)
    database_url: str | None = field(default=None, repr=False)


_SECTIONS: dict[str, type[Retry] | type[MonitorSettings]] = {
    "retry": Retry,
    "monitor": MonitorSettings,
}
# Smallest value each number may have; a port of 0 lets the system choose one.
_MINIMUM: dict[str, float] = {
    "port": 0,
    "max_tokens": 1,
    "temperature": 0,
    "upload_max_mib": 0,
    "message_max_chars": 1000,
    "request_timeout_seconds": 0.1,
    "recovery_wait_seconds": 0,
    "drain_seconds": 0,
    "session_keep_seconds": 1,
    "messages_per_minute": 0,
    "concurrent_answers": 1,
    "queue_length": 0,
    "questions_per_person": 1,
    "login_session_hours": 1,
    "history_days": 0,
    "retry.attempts": 1,
    "retry.first_delay_seconds": 0,
    "retry.max_delay_seconds": 0,
    "monitor.interval_seconds": 0.05,
    "monitor.timeout_seconds": 0.05,
    "monitor.failures": 1,
}
LOGINS = ("none", "password", "header", "oauth")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_DATABASES = ("sqlite", "postgresql")
_TITLE_FORBIDDEN = frozenset("<>&\"'\\")


def load_settings(path: Path) -> Settings:
    """Read settings.json.

    Raises SettingsError for an unreadable file, an unknown key or a value out of range. A relative
    logo_path is beside the file.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; give a readable file") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}); render it again") from None
    if isinstance(data, dict) and isinstance(data.get("logo_path"), str):
        data["logo_path"] = str(path.parent / data["logo_path"])
    return parse_settings(data)


def parse_settings(data: object) -> Settings:
    """Build the settings from decoded JSON; raises SettingsError."""
    if not isinstance(data, dict):
        raise SettingsError("the settings are not a JSON object; write one with named keys")
    settings = Settings(**_values(Settings, data, ""))
    _check_texts(settings)
    _check_looks(settings)
    _check_login(settings)
    return settings


def load_secrets(directory: str | None) -> Secrets:
    """Read the optional files, named as the fields; None stands for no directory at all."""
    if not directory:
        return Secrets()
    names = [item.name for item in dataclasses.fields(Secrets)]
    return Secrets(**{name: _secret(Path(directory) / name) for name in names})


def _secret(path: Path) -> str | None:
    if not path.is_file():
        return None
    return path.read_text(encoding="utf-8").strip() or None


def _values(cls: type[Any], data: Mapping[str, object], prefix: str) -> dict[str, Any]:
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for key in data:
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise SettingsError(
                f'unknown setting "{prefix}{key}"; remove it or use one of: {known}'
            )
    values: dict[str, Any] = {}
    for name, item in fields.items():
        full = prefix + name
        if name not in data:
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
                raise SettingsError(f'the setting "{full}" is missing; add it')
            continue
        value = data[name]
        section = _SECTIONS.get(name)
        if section is None:
            values[name] = _scalar(full, str(item.type), value)
        elif isinstance(value, dict):
            values[name] = section(**_values(section, value, f"{name}."))
        else:
            raise SettingsError(f'the setting "{full}" must be an object with named keys')
    return values


def _scalar(name: str, annotation: str, value: object) -> object:
    if value is None and annotation.endswith("| None"):
        return None
    kind = annotation.removesuffix(" | None")
    if kind == "bool":
        if not isinstance(value, bool):
            raise SettingsError(f'the setting "{name}" must be true or false, without quotes')
        return value
    if kind == "str":
        if not isinstance(value, str):
            raise SettingsError(f'the setting "{name}" must be a text; quote it')
        return value
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsError(f'the setting "{name}" must be a list of texts')
        return tuple(value)
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingsError(f'the setting "{name}" must be a number; write it without quotes')
    if kind == "int" and not isinstance(value, int):
        raise SettingsError(f'the setting "{name}" must be a whole number')
    if value < _MINIMUM[name]:
        raise SettingsError(f'the setting "{name}" must be at least {_MINIMUM[name]}; raise it')
    if name == "port" and value > 65535:
        raise SettingsError('the setting "port" must be at most 65535; lower it')
    return value


def _check_texts(settings: Settings) -> None:
    url = urlsplit(settings.upstream_url)
    if url.scheme not in ("http", "https") or not url.netloc:
        raise SettingsError(
            'the setting "upstream_url" must be a URL such as http://127.0.0.1/v1; correct it'
        )
    if not Path(settings.state_directory).is_absolute():
        raise SettingsError('the setting "state_directory" must be an absolute path; correct it')
    root = settings.root_path
    if root and (not root.startswith("/") or root.endswith("/")):
        raise SettingsError(
            'the setting "root_path" must be empty or start with "/" and not end with it'
        )
    if settings.history_database not in _DATABASES:
        raise SettingsError(
            'the setting "history_database" must be sqlite or postgresql; correct it'
        )
    title = settings.title
    # The title is put into HTML and SVG by code that does not escape it.
    if not title.strip() or not title.isprintable() or _TITLE_FORBIDDEN & set(title):
        raise SettingsError(
            'the setting "title" must be one printable line without < > & quotes or backslash; '
            "choose another"
        )
    ca_path = settings.upstream_ca_path
    if ca_path is not None and not Path(ca_path).is_file():
        raise SettingsError(
            f'the setting "upstream_ca_path" names {ca_path}, which is no file; install it'
        )


def _check_looks(settings: Settings) -> None:
    if settings.theme not in THEMES:
        raise SettingsError(f'the setting "theme" must be one of {", ".join(THEMES)}; choose one')
    try:
        check_color(settings.primary_color)
    except LooksError as error:
        raise SettingsError(f'the setting "primary_color": {error}') from None
    if settings.logo_path is not None:
        try:
            read_logo(Path(settings.logo_path))
        except LooksError as error:
            raise SettingsError(f'the setting "logo_path": {error}') from None


def _check_login(settings: Settings) -> None:
    if settings.login not in LOGINS:
        raise SettingsError(f'the setting "login" must be one of {", ".join(LOGINS)}; correct it')
    for name in ("login_header", "login_secret_header"):
        if not _HEADER.fullmatch(getattr(settings, name)):
            raise SettingsError(f'the setting "{name}" must be the name of a header; correct it')
    if settings.login_header.lower() == settings.login_secret_header.lower():
        raise SettingsError(
            'the setting "login_secret_header" must not be that of "login_header"; choose another'
        )
    if settings.login == "oauth" and not settings.login_oauth_allowed:
        raise SettingsError(
            'the setting "login_oauth_allowed" is empty; name people, @domains, or "*" for '
            "everyone whom the provider knows"
        )
