"""The values of roles' variables for a host, each evaluated on its own."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpufleet.llm.plugins.plugin_utils._fleet import GROUPS, roles_of
from ansible_collections.gpufleet.llm.plugins.plugin_utils._role_variables import (
    ROOT,
    evaluate,
    load_roles,
)
from sample_fleet import lines, trusted

ROLES = load_roles(DataLoader())


def values_of(role: str, **variables: Any) -> tuple[dict[str, Any], list[str]]:
    host = {"inventory_hostname": "h", "groups": {"gateway": ["web"]}, **trusted(variables)}
    host["hostvars"] = {"h": host, "web": {"ansible_host": "192.0.2.1"}}
    values, findings = evaluate(ROLES[role], "h", host, DataLoader())
    return values, lines(findings)


def test_every_role_is_found() -> None:
    assert set(ROLES) == {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}


def test_every_role_belongs_to_a_group_or_to_all_hosts() -> None:
    assert set(ROLES) <= set(roles_of(frozenset(GROUPS)))


def test_what_the_roles_register_is_known() -> None:
    assert "vllm_release" in ROLES["vllm"].registered
    assert ROLES["python_release"].registered == {
        "__python_release_found",
        "python_release_result",
        "python_release_uv",
    }


def test_defaults_are_templates() -> None:
    values, findings = values_of("vllm")
    assert findings == []
    assert values["vllm_listen_address"] == "0.0.0.0"
    assert values["vllm_gate_deadline_seconds"] == 900
    assert "vllm_instances" not in values


def test_defaults_may_need_the_roles_own_variables_and_other_hosts() -> None:
    values, findings = values_of("chainlit", nginx_http_port=8080)
    assert findings == []
    assert values["chainlit_upstream_url"] == "http://192.0.2.1:8080/v1"


def test_the_inventory_wins() -> None:
    values, _findings = values_of("vllm", name="x", vllm_api_key="{{ name }}-{{ name }}")
    assert values["vllm_api_key"] == "x-x"


def test_what_cannot_be_evaluated_leaves_the_rest() -> None:
    values, findings = values_of(
        "vllm", vllm_api_key="{{ vault_key }}", vllm_variant="{{ 'gpu' | no_such_filter }}"
    )
    assert {"vllm_api_key", "vllm_variant"}.isdisjoint(values)
    assert values["vllm_restart_attempts"] == 3
    assert len(findings) == 2
    assert "vault_key is not defined" in " ".join(findings)


@pytest.mark.parametrize(("name", "quoted"), [("path", True), ("vault_path", False)])
def test_values_in_errors_about_secrets_are_not_quoted(name: str, quoted: bool) -> None:
    broken = f"{{{{ lookup('ansible.builtin.file', {name}) }}}}"
    _values, findings = values_of("chainlit", chainlit_title=broken, **{name: "/planted-secret"})
    assert len(findings) == 1
    assert ("planted" in findings[0]) == quoted, findings
