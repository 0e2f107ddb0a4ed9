# Copyright: (c) The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of one instance, read from ``instances/NAME.json`` and checked key by key."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from _probe import Canary, Client, Target
from guard_admission import probe_headers

NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]*[a-z0-9])?")
KEYS_LINE = "api-key: "
ENVIRONMENT_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SettingsError(Exception):
    """The settings cannot be used; the message names the file, the key and the remedy."""


@dataclass(frozen=True)
class Gate:
    """How far an instance must get to count as started, and by when (seconds)."""

    level: str
    deadline_seconds: float


@dataclass(frozen=True)
class WatchSettings:
    """How often a running instance is looked at, and how many failed probes make a hang."""

    interval_seconds: float
    probe_timeout_seconds: float
    failures: int


@dataclass(frozen=True)
class CanarySettings:
    """How often a running instance is asked its canary (0: never), and what a wrong answer does."""

    every_minutes: float
    restart: bool


@dataclass(frozen=True)
class Settings:
    """One instance inside its release directory.

    ``gpus`` are indexes in the order of the bus; None means all of the host.
    """

    name: str
    release: Path
    model: Path
    gpus: tuple[int, ...] | None
    host: str
    port: int
    health_port: int
    served_model_name: str
    environment: Mapping[str, str]
    gate: Gate
    canary: Canary | None
    canary_watch: CanarySettings
    watch: WatchSettings
    shutdown_timeout_seconds: float

    @property
    def vllm(self) -> Path:
        """The vllm command of this release."""
        return self.release / "venv" / "bin" / "vllm"

    @property
    def config(self) -> Path:
        """The configuration file that vLLM reads."""
        return self.release / "instances" / f"{self.name}.yaml"

    @property
    def url(self) -> str:
        """Where probes go; an instance bound to all addresses is probed on loopback."""
        if self.host == "localhost":
            return f"http://localhost:{self.port}"
        address = ipaddress.ip_address(self.host)
        if address.version == 6:
            return f"http://[{'::1' if address.is_unspecified else address}]:{self.port}"
        return f"http://{'127.0.0.1' if address.is_unspecified else address}:{self.port}"

    def target(self, api_keys: list[str], directory: Path | None = None) -> Target:
        """Return what the probes need; outside of the unit its runtime directory must be named."""
        key = api_keys[0] if api_keys else None
        client = Client(self.url, api_key=key, headers=probe_headers(directory))
        return Target(client, self.served_model_name, self.canary)


def load(release: Path, name: str) -> Settings:
    """Read and check the settings of ``name`` in ``release``; raise SettingsError."""
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not an instance name: use lower case, digits, - _ .")
    path = release / "instances" / f"{name}.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"{path} does not exist: deploy the instance, or {_known(path)}"
        ) from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON: {error}; deploy the release again") from error
    return _settings(_Reader(document, str(path), ""), release, name)


def _known(path: Path) -> str:
    names = sorted(entry.stem for entry in path.parent.glob("*.json"))
    return f"name one of: {', '.join(names)}" if names else "run this in a release directory"


def read_api_keys(path: Path | None) -> list[str]:
    """Return the keys in ``path``, else in the unit's credential, else none.

    One a line. The first is the current one; instances accept the others too, while keys change.
    """
    if path is None:
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        path = Path(directory) / "api_key" if directory else None
        if path is None or not path.is_file():
            return []
    try:
        keys = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise SettingsError(f"API key file {path} cannot be read: {error.strerror}") from error
    if not keys or not all(key.isprintable() and key.isascii() for key in keys):
        raise SettingsError(f"API key file {path} must hold lines of ASCII characters, one a key")
    return keys


def private_config() -> Path | None:
    """Return where ``run`` writes vLLM's configuration with keys, None outside of a unit."""
    directory = os.environ.get("RUNTIME_DIRECTORY")
    return Path(directory, "vllm.yaml") if directory else None


def keys_of_run() -> list[str]:
    """Return the keys with which ``run`` has started vLLM, none before it has.

    The gate asks here: systemd 252 shows a credential to the main process alone.
    """
    private = private_config()
    if private is None or not private.is_file():
        return []
    last = private.read_text(encoding="utf-8").splitlines()[-1:]
    keys = json.loads(last[0][len(KEYS_LINE) :]) if last and last[0].startswith(KEYS_LINE) else []
    return [str(key) for key in keys]


def _settings(top: _Reader, release: Path, name: str) -> Settings:
    named = top.text("name")
    if named != name:
        raise top.error("name", f"is {named!r}, not {name!r}: file name and name must be equal")
    canary, canary_watch = _canary(top.optional_section("canary"))
    gate = top.section("gate")
    watch = top.section("watch")
    settings = Settings(
        name=name,
        release=release,
        model=Path(top.text("model")),
        gpus=top.optional_indexes("gpus"),
        host=top.address("host"),
        port=top.whole("port", 1, 65535),
        health_port=top.whole("health_port", 1, 65535),
        served_model_name=top.text("served_model_name"),
        environment=top.environment("environment"),
        gate=Gate(
            level=gate.choice("level", ("token", "canary")),
            deadline_seconds=gate.number("deadline_seconds", 1, 86400),
        ),
        canary=canary,
        canary_watch=canary_watch,
        watch=WatchSettings(
            interval_seconds=watch.number("interval_seconds", 0.1, 3600),
            probe_timeout_seconds=watch.number("probe_timeout_seconds", 0.1, 3600),
            failures=watch.whole("failures", 1, 100),
        ),
        shutdown_timeout_seconds=top.number("shutdown_timeout_seconds", 0, 86400),
    )
    if settings.gate.level == "canary" and canary is None:
        raise top.error("canary", "is null but gate.level is canary: give prompt and expect")
    for section in (gate, watch, top):
        section.refuse_unknown()
    return settings


def _canary(section: _Reader | None) -> tuple[Canary | None, CanarySettings]:
    if section is None:
        return None, CanarySettings(0, False)
    expect = section.text("expect")
    try:
        re.compile(expect)
    except re.error as error:
        raise section.error("expect", f"is not a regular expression: {error}") from error
    max_tokens = section.whole("max_tokens", 1, 4096)
    canary = Canary(section.text("prompt"), expect, max_tokens)
    watch = CanarySettings(section.number("every_minutes", 0, 10080), section.boolean("restart"))
    section.refuse_unknown()
    return canary, watch


class _Reader:
    """Typed access to one JSON object; remembers which keys were read."""

    def __init__(self, document: object, path: str, prefix: str) -> None:
        self._path = path
        self._prefix = prefix
        if not isinstance(document, dict):
            where = prefix.rstrip(".") or "the whole file"
            raise SettingsError(f"{path}: {where} must be an object in braces")
        self._values: dict[str, object] = document
        self._read: set[str] = set()

    def error(self, key: str, problem: str) -> SettingsError:
        return SettingsError(f"{self._path}: {self._prefix}{key} {problem}")

    def refuse_unknown(self) -> None:
        for key in self._values.keys() - self._read:
            known = ", ".join(sorted(self._read))
            raise self.error(key, f"is not known: remove it, or use one of: {known}")

    def section(self, key: str) -> _Reader:
        value = self._value(key, "an object")
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object")
        return _Reader(value, self._path, f"{self._prefix}{key}.")

    def optional_section(self, key: str) -> _Reader | None:
        return None if self._value(key, "an object or null") is None else self.section(key)

    def text(self, key: str) -> str:
        wanted = "a text, not empty"
        value = self._value(key, wanted)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, value, wanted)
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        wanted = f"one of {', '.join(choices)}"
        value = self._value(key, wanted)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(key, value, wanted)
        return value

    def number(self, key: str, low: float, high: float) -> float:
        wanted = f"a number from {low:g} to {high:g}"
        value = self._value(key, wanted)
        # In Python a bool is an int.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, value, wanted)
        if not low <= value <= high:
            raise self._wrong(key, value, wanted)
        return float(value)

    def whole(self, key: str, low: int, high: int) -> int:
        number = self.number(key, low, high)
        if number != int(number):
            raise self._wrong(key, number, f"a whole number from {low} to {high}")
        return int(number)

    def boolean(self, key: str) -> bool:
        wanted = "true or false"
        value = self._value(key, wanted)
        if not isinstance(value, bool):
            raise self._wrong(key, value, wanted)
        return value

    def optional_indexes(self, key: str) -> tuple[int, ...] | None:
        wanted = "a list of whole numbers, or null"
        value = self._value(key, wanted)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._wrong(key, value, wanted)
        if any(isinstance(item, bool) or not isinstance(item, int) for item in value):
            raise self._wrong(key, value, wanted)
        return tuple(value)

    def address(self, key: str) -> str:
        value = self.text(key)
        if value != "localhost":
            try:
                ipaddress.ip_address(value)
            except ValueError as error:
                raise self._wrong(key, value, "an IP address or localhost") from error
        return value

    def environment(self, key: str) -> dict[str, str]:
        wanted = "an object of texts"
        values = self._value(key, wanted)
        if not isinstance(values, dict):
            raise self._wrong(key, values, wanted)
        for name, value in values.items():
            if not ENVIRONMENT_KEY.fullmatch(name) or not isinstance(value, str):
                raise self.error(f"{key}.{name}", "must be a variable name with a text in quotes")
            if name == "VLLM_API_KEY":
                raise self.error(f"{key}.{name}", "is a secret: put it in the unit's credential")
        return dict(values)

    def _value(self, key: str, wanted: str) -> object:
        self._read.add(key)
        if key not in self._values:
            raise self.error(key, f"is missing: it must be {wanted}")
        return self._values[key]

    def _wrong(self, key: str, value: object, wanted: str) -> SettingsError:
        return self.error(key, f"is {value!r}: it must be {wanted}")
