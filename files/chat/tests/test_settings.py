"""Settings are refused with the key's name and a remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpufleet_chat.settings import (
    SettingsError,
    load_secrets,
    load_settings,
    parse_settings,
)

MINIMAL: dict[str, object] = {
    "upstream_url": "http://127.0.0.1/v1",
    "state_directory": "/var/lib/chat",
}


def test_minimal_settings_have_defaults() -> None:
    settings = parse_settings(MINIMAL)
    assert (settings.port, settings.recovery_wait_seconds) == (7860, 900)
    assert settings.monitor.failures == 3


def test_all_settings_are_taken(tmp_path: Path) -> None:
    given = MINIMAL | {
        "temperature": 0.5,
        "model": None,
        "root_path": "/chat",
        "title": "问答助手",
        "retry": {"attempts": 7},
        "monitor": {"failures": 5, "interval_seconds": 1},
    }
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    settings = load_settings(path)
    assert settings.title == "问答助手"
    assert (settings.retry.attempts, settings.retry.first_delay_seconds) == (7, 0.5)
    assert settings.monitor.failures == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"upstream": "x"}, 'unknown setting "upstream"; remove it or use one of'),
        ({"retry": {"tries": 1}}, 'unknown setting "retry.tries"'),
        ({"retry": 3}, '"retry" must be an object'),
        ({"retry": {"attempts": 0}}, '"retry.attempts" must be at least 1'),
        ({"port": "7860"}, '"port" must be a number; write it without quotes'),
        ({"port": 70000}, '"port" must be at most 65535'),
        ({"port": True}, '"port" must be a number'),
        ({"max_tokens": 1.5}, '"max_tokens" must be a whole number'),
        ({"history_days": -1}, '"history_days" must be at least 0'),
        ({"history_database": "mysql"}, '"history_database" must be sqlite or postgresql'),
        ({"title": 5}, '"title" must be a text'),
        ({"title": "<b>"}, '"title" must be one printable line'),
        ({"title": " "}, '"title" must be one printable line'),
        ({"upstream_url": "127.0.0.1/v1"}, '"upstream_url" must be a URL'),
        ({"state_directory": "state"}, '"state_directory" must be an absolute path'),
        ({"root_path": "chat/"}, '"root_path" must be empty or start with'),
        ({"upstream_ca_path": "/no/such/ca.pem"}, '"upstream_ca_path" names /no/such/ca.pem'),
    ],
)
def test_wrong_setting_is_named(change: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=r";|must") as raised:
        parse_settings(MINIMAL | change)
    assert said in str(raised.value)


def test_missing_setting_is_named() -> None:
    with pytest.raises(SettingsError, match='"upstream_url" is missing; add it'):
        parse_settings({"state_directory": "/var/lib/chat"})


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_unreadable_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "settings.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SettingsError):
        load_settings(path)


def test_secrets_are_optional_and_never_printed(tmp_path: Path) -> None:
    assert load_secrets(None).api_key is None
    assert load_secrets(str(tmp_path)).api_key is None
    (tmp_path / "api_key").write_text("sesame\n", encoding="utf-8")
    secrets = load_secrets(str(tmp_path))
    assert secrets.api_key == "sesame"
    assert secrets.auth_secret is None
    assert "sesame" not in repr(secrets)
