"""Names, interpreters, the builder's environment and its errors."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.modules import locked_venv

PARAMS: dict[str, Any] = {
    "cache": "/var/cache/uv",
    "index_url": "https://user:secret@index.example/simple",
    "extra_index_urls": ["https://extra.example/simple"],
    "find_links": ["/srv/wheels", "/srv/more"],
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
    name = locked_venv.environment_name("a==1", "", "3.11")
    assert name == locked_venv.environment_name("a==1", "", "3.11")
    assert name != locked_venv.environment_name(*other)


def test_first_interpreter_found_wins(module: AnsibleModule) -> None:
    path, version = locked_venv.find_interpreter(module, ["9.9", sys.executable])
    assert path == sys.executable
    assert version == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_no_interpreter_names_the_remedy(module: AnsibleModule) -> None:
    with pytest.raises(locked_venv.BuildError, match=r"9\.9.*python_release_python"):
        locked_venv.find_interpreter(module, ["9.9", "/nowhere/python"])


def test_environment_holds_every_setting() -> None:
    environment = locked_venv.builder_environment(PARAMS)
    assert environment["UV_DEFAULT_INDEX"] == PARAMS["index_url"]
    assert environment["UV_FIND_LINKS"] == "/srv/wheels,/srv/more"
    assert environment["PIP_FIND_LINKS"] == "/srv/wheels /srv/more"
    assert environment["SSL_CERT_FILE"] == environment["PIP_CERT"] == "/etc/ca.pem"
    assert environment["HTTPS_PROXY"] == PARAMS["proxy"]


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
