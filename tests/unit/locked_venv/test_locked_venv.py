"""Names, the builder's environment and its errors, and builds without any index."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.module_utils._locked_environment import (
    environment_name,
)
from ansible_collections.gpufleet.llm.plugins.modules import locked_venv

PARAMS: dict[str, Any] = {
    "cache": "/var/cache/uv",
    "index_url": "https://user:secret@index.example/simple",
    "extra_index_urls": ["https://extra.example/simple"],
    "find_links": ["/srv/wheels", "/srv/more"],
    "offline": True,
    "ca_bundle": "/etc/ca.pem",
    "proxy": "http://proxy.example:3128",
}


@pytest.fixture
def module() -> AnsibleModule:
    with patch_module_args({}):
        return AnsibleModule(argument_spec={})


@pytest.mark.parametrize(
    "other",
    [("a==2", "", "3.11"), ("a==1", "setuptools==1", "3.11"), ("a==1", "", "3.12")],
    ids=["lock", "build constraints", "interpreter"],
)
def test_name_follows_all_that_goes_in(other: tuple[str, str, str]) -> None:
    name = environment_name("a==1", "", "3.11")
    assert name == environment_name("a==1", "", "3.11")
    assert name != environment_name(*other)


def test_environment_holds_every_setting() -> None:
    environment = locked_venv.builder_environment(PARAMS)
    assert environment["UV_DEFAULT_INDEX"] == PARAMS["index_url"]
    assert environment["UV_FIND_LINKS"] == "/srv/wheels,/srv/more"
    assert environment["PIP_FIND_LINKS"] == "/srv/wheels /srv/more"
    assert environment["SSL_CERT_FILE"] == environment["PIP_CERT"] == "/etc/ca.pem"
    assert environment["HTTPS_PROXY"] == PARAMS["proxy"]
    assert environment["PIP_NO_INDEX"] == "1"


def test_environment_without_settings_leaves_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "PIP_CERT", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    empty = {name: [] if isinstance(value, list) else "" for name, value in PARAMS.items()}
    environment = locked_venv.builder_environment(empty)
    assert not {"UV_DEFAULT_INDEX", "PIP_CERT", "HTTPS_PROXY"} & set(environment)


@pytest.mark.parametrize(
    ("output", "remedy"),
    [
        ("Hash mismatch for `six==1.16.0`", "renew the lock"),
        ("write error: No space left on device", "free some disk"),
        ("invalid peer certificate: UnknownIssuer", "python_release_ca_bundle"),
        ("there is no version of six==99", "python_release_index_url"),
        ("tiny was not found in the provided package locations", "python_release_find_links"),
        ("Failed to read `--find-links` directory: /srv", "python_release_find_links"),
        ("dns error: failed to lookup address information", "reaches the package index"),
    ],
)
def test_failure_ends_with_the_remedy(output: str, remedy: str) -> None:
    assert remedy in locked_venv.remedy_for(output)


def test_builder_that_fails_is_quoted(module: AnsibleModule) -> None:
    with pytest.raises(locked_venv.BuildError, match=r"(?s)ended with 3: no version of.*Remedy"):
        locked_venv.call(
            module, [sys.executable, "-c", "import sys; print('no version of x'); sys.exit(3)"], {}
        )


def write_wheel(folder: Path) -> str:
    """Write a wheel of one module into a new folder; return the line that locks it."""
    folder.mkdir()
    wheel, info = folder / "tiny-1-py3-none-any.whl", "tiny-1.dist-info"
    with zipfile.ZipFile(wheel, "w") as content:
        content.writestr("tiny.py", "WORD = 'whole'\n")
        content.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
        content.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        content.writestr(f"{info}/RECORD", "")
    return f"tiny==1 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def run(capsys: pytest.CaptureFixture[str], **options: object) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        locked_venv.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.mark.parametrize("builder", ["uv", "pip"])
def test_offline_asks_no_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], builder: str
) -> None:
    options: dict[str, object] = {
        "directory": str(tmp_path / "venvs"),
        "requirements": write_wheel(tmp_path / "wheels"),
        "python": sys.executable,
        "index_url": "http://127.0.0.1:9/simple",
        "extra_index_urls": ["http://127.0.0.1:9/more"],
        "find_links": [str(tmp_path / "wheels")],
        "cache": str(tmp_path / "cache"),
        "offline": True,
        **({"uv": shutil.which("uv")} if builder == "uv" else {}),
    }
    # As on a hardened host, where files are for their owner alone unless somebody says otherwise.
    before = os.umask(0o077)
    built = run(capsys, **options)
    os.umask(before)
    assert built["changed"] is True, built
    closed = [path for path in Path(built["path"]).rglob("*") if not path.stat().st_mode & 0o004]
    assert closed == []
    python = f"{built['path']}/bin/python"
    done = subprocess.run(
        [python, "-c", "import tiny; print(tiny.WORD)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "whole\n"
    if builder == "pip":
        return  # it takes seconds to make an environment
    missing = str(options["requirements"]).replace("tiny", "huge")
    refused = run(capsys, **{**options, "requirements": missing})
    assert refused["failed"] is True
    assert "python_release_find_links" in refused["msg"]
    assert "127.0.0.1" not in refused["msg"]


def test_password_of_a_directory_of_wheels_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run(
        capsys,
        directory=str(tmp_path / "venvs"),
        requirements="tiny==1 --hash=sha256:" + "0" * 64,
        python=sys.executable,
        find_links=["http://builder:of-the-wheels@127.0.0.1:9/wheels/"],
        cache=str(tmp_path / "cache"),
        offline=True,
        uv=shutil.which("uv"),
    )
    assert refused["failed"] is True
    assert "of-the-wheels" not in str(refused)
    assert "reaches the addresses of python_release_find_links" in refused["msg"], refused["msg"]


def test_environment_whose_python_is_gone_is_built_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when python_release_python moves: the version, and so the name, stays the same."""
    here, there = tmp_path / "here", tmp_path / "there"
    for link in (here, there):
        link.symlink_to(Path(sys.base_prefix))
    program = Path("bin", Path(sys.executable).resolve().name)
    options: dict[str, object] = {
        "directory": str(tmp_path / "venvs"),
        "requirements": write_wheel(tmp_path / "wheels"),
        "find_links": [str(tmp_path / "wheels")],
        "cache": str(tmp_path / "cache"),
        "offline": True,
        "uv": shutil.which("uv"),
    }
    built = run(capsys, **options, python=str(here / program))
    python = Path(built["path"], "bin", "python")
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    again = run(capsys, **options, python=str(there / program))
    assert (again["path"], again["changed"]) == (built["path"], True)
    subprocess.run([str(python), "-c", "import tiny"], check=True)
    assert not run(capsys, **options, python=str(there / program))["changed"]
    assert [path.name for path in Path(built["path"]).parent.iterdir() if path.is_dir()] == [
        Path(built["path"]).name
    ]


def test_what_builds_of_other_locks_left_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a power cut and then another lock: gigabytes that no run would name again."""
    venvs = tmp_path / "venvs"
    others = {"0123456789abcdef", "fedcba9876543210", "v1.partial"}
    for name in (*others, "0123456789abcdef.old.partial", "00000000000000ff.partial"):
        (venvs / name / "lib").mkdir(parents=True)
    built = run(
        capsys,
        directory=str(venvs),
        requirements=write_wheel(tmp_path / "wheels"),
        find_links=[str(tmp_path / "wheels")],
        cache=str(tmp_path / "cache"),
        offline=True,
        uv=shutil.which("uv"),
        python=sys.executable,
    )
    left = {path.name for path in venvs.iterdir() if path.is_dir()}
    assert left == {Path(built["path"]).name, *others}


def test_a_python_that_the_lock_is_not_for_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"directory": str(tmp_path), "requirements": "a==1", "python": sys.executable}
    refused = run(capsys, python_versions=["9.9"], **options)
    assert "the lock was made for 9.9" in refused["msg"]
    assert run(capsys, _ansible_check_mode=True, **options)["changed"] is True


def test_versions_or_an_interpreter_must_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run(capsys, directory=str(tmp_path), requirements="a==1")
    assert "python_versions, python" in refused["msg"]
