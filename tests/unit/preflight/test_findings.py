"""How findings are printed, returned and kept free of secrets."""

from __future__ import annotations

from ansible_collections.gpufleet.llm.plugins.plugin_utils._findings import (
    Finding,
    as_merged_records,
    as_records,
    render,
)
from ansible_collections.gpufleet.llm.plugins.plugin_utils._names import nearest, one_typo_apart
from ansible_collections.gpufleet.llm.plugins.plugin_utils._redact import redact, secrets_in


def test_sorted_by_host_then_variable() -> None:
    findings = [
        Finding("b", "x", "P1.", "R1."),
        Finding("a", "y", "P2.", "R2."),
        Finding("a", "x", "P3.", "R3."),
    ]
    assert render(findings) == (
        "Refused before anything was changed, 3 findings:\n"
        "\na: x\n    P3.\n    Remedy: R3.\n"
        "\na: y\n    P2.\n    Remedy: R2.\n"
        "\nb: x\n    P1.\n    Remedy: R1."
    )


def test_the_same_on_many_hosts_is_one() -> None:
    fleet = [Finding(f"gpu{n:03}", "x", "P.", "R.") for n in range(200)]
    text = render([*fleet, Finding("gpu100", "y", "P.", "R.")])
    assert "gpu000, gpu001, gpu002 and 197 more hosts: x" in text
    assert len(text.splitlines()) == 9
    assert len(as_records(fleet)) == 200
    (record,) = as_merged_records(fleet)
    assert record["host"].count(",") == 199
    assert record["variable"] == "x"


def test_a_few_hosts_are_all_named() -> None:
    assert "a, b, c: x" in render([Finding(name, "x", "P.", "R.") for name in "cab"])


def test_the_same_twice_is_one() -> None:
    assert as_records([Finding("a", "x", "P.", "R.")] * 2) == [
        {"host": "a", "variable": "x", "problem": "P.", "remedy": "R.", "severity": "error"}
    ]


def test_secrets_are_found_by_spec_by_name_and_by_place() -> None:
    options = {
        "hidden": {"type": "str", "no_log": True},
        "clients": {"options": {"pin": {"no_log": True}, "name": {}}},
        "environment": {"type": "dict"},
        "title": {},
    }
    values = {
        "hidden": "by-spec-01",
        "clients": [{"pin": "by-spec-02", "name": "someone"}],
        "environment": {"HF_TOKEN": "by-name-01", "TOKENIZERS": "no-secret", "A_KEY": "short"},
        "title": "no-secret",
        "index": "https://user:in-address@index.company.net/simple",
    }
    assert secrets_in(options, values) == {"by-spec-01", "by-spec-02", "by-name-01", "in-address"}


def test_secrets_are_replaced_wherever_they_stand() -> None:
    (clean,) = redact(
        [Finding("a", "v[s3cret-s3cret]", "Is s3cret-s3cret.", "Not s3cret.")], {"s3cret"}
    )
    assert "s3cret" not in f"{clean}"
    assert clean.problem == "Is ********-********."


def test_typing_errors() -> None:
    for written in ("inferense", "inferece", "inferencee", "inferecne", "nference", "inferenc"):
        assert one_typo_apart(written, "inference"), written
    for written in ("inference", "reference", "infer", "inferecen"):
        assert not one_typo_apart(written, "inference"), written


def test_nearest_name() -> None:
    assert nearest("max_model_length", ["max_model_len", "model"]) == "max_model_len"
    assert nearest("zzz", ["max_model_len", "model"]) is None
