"""The playbook itself, run on small inventories up to the first connection."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from sample_fleet import GPU, PRODUCTION, instance

from tests.unit.ansible_command import ROOT, call

PREFLIGHT = ROOT / "playbooks" / "preflight.yml"
PASSWORD = "the-password-of-the-vault"
PLANTED = "planted-secret-0123456789"
ONLY_THE_INVENTORY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: gpufleet.llm.preflight, tasks_from: inventory}
      run_once: true
"""


class Place:
    """A directory with an inventory, and the output of one run there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "password").write_text(PASSWORD)
        (path / "wrong").write_text("another password")
        self.output = ""

    def write(self, hosts: tuple[str, ...] = (GPU,), **changes: Any) -> None:
        """Write PRODUCTION's variables with changes; None takes a variable away."""
        variables = {**PRODUCTION, **changes}
        members = dict.fromkeys(hosts)
        groups = {group: {"hosts": members} for group in ("inference", "chat", "gateway")}
        document = {
            "all": {
                "children": groups,
                "vars": {key: value for key, value in variables.items() if value is not None},
            }
        }
        (self.path / "hosts.yml").write_text(yaml.safe_dump(document))

    def encrypt(self, name: str, value: str) -> None:
        """Add a variable that is encrypted on its own."""
        arguments = ["--vault-password-file", "password", "--stdin-name", name]
        done = call("ansible-vault", "encrypt_string", *arguments, cwd=self.path, stdin=value)
        assert done.returncode == 0, done.stderr
        folder = self.path / "group_vars" / "all"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.yml").open("w") as stream:
            stream.write(done.stdout)

    def run(self, *arguments: str, playbook: Path = PREFLIGHT) -> int:
        """Run the playbook; `output` is all that it prints, with single spaces."""
        done = call("ansible-playbook", "-i", "hosts.yml", playbook, *arguments, cwd=self.path)
        self.output = re.sub(r"\s+", " ", done.stdout + done.stderr)
        return done.returncode

    def run_inventory(self, *arguments: str) -> int:
        """The same without the part that connects to hosts."""
        playbook = self.path / "inventory_only.yml"
        playbook.write_text(ONLY_THE_INVENTORY)
        return self.run(*arguments, playbook=playbook)

    @property
    def report(self) -> Any:
        """The report as data."""
        return json.loads((self.path / "gpufleet-preflight.json").read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_nothing_to_refuse(place: Place) -> None:
    place.write(hosts=(GPU, "gpu2"))
    assert place.run_inventory("--check", "--limit", "gpu2") == 0, place.output
    assert "changed=0" in place.output
    roles = ["vllm", "model", "python_release", "chainlit", "nginx", "preflight"]
    assert place.report["findings"] == []
    assert set(roles) <= set(place.report["hosts"][GPU]["inventory"])
    assert set(place.report["hosts"]) == {GPU, "gpu2"}
    assert (place.path / "gpufleet-preflight.json").stat().st_mode & 0o777 == 0o600


def test_a_warning_refuses_nothing(place: Place) -> None:
    users = [
        {"name": "anna", "hash": "$argon2id$v=19$m=65536,t=3,p=4$" + "a" * 22 + "$" + "b" * 43}
    ]
    secret = "secret-of-sessions-0123456789"
    way = {"chainlit_login": "password", "chainlit_auth_secret": secret, "chainlit_users": users}
    place.write(hosts=(GPU, "gpu2"), **way)
    assert place.run_inventory() == 0, place.output
    assert "[WARNING]: gpu1, gpu2: chainlit_database_url It is empty" in place.output


def test_all_at_once_and_no_secret(place: Place) -> None:
    place.write(
        vllm_instances=[instance(port=80, environment={"MY_TOKEN": PLANTED})],
        vllm_api_key=f"{PLANTED} with spaces",
        nginx_api_clients=[{"name": "a b", "key": PLANTED, "kind": PLANTED}],
        chainlit_title="{{ vllm_api_key | int + chainlit_api_key }}",
        chainlit_api_key=PLANTED,
        vllm_gate_deadline=1,
    )
    assert place.run("-vvv") == 2
    assert PLANTED not in place.output
    assert PLANTED not in json.dumps(place.report)
    # No host was connected to.
    assert "ESTABLISH" not in place.output
    variables = {finding["variable"] for finding in place.report["findings"]}
    assert variables == {
        "vllm_instances[qwen3].port",
        "vllm_instances[qwen3].environment.MY_TOKEN",
        "vllm_api_key",
        "nginx_vllm_api_key",
        "nginx_api_clients[a b].kind",
        "nginx_api_clients[a b].name",
        "chainlit_title",
        "vllm_gate_deadline",
    }
    for variable in variables:
        assert f"{GPU}: {variable} " in place.output
    assert "Remedy: Did you mean vllm_gate_deadline_seconds?" in place.output
    assert "changed=0" in place.output


@pytest.mark.parametrize("password", [(), ("--vault-password-file", "wrong")])
def test_unreadable_secrets(place: Place, password: tuple[str, ...]) -> None:
    place.write(vllm_api_key="{{ vault_vllm_key }}", chainlit_api_key="{{ vault_chat_key }}")
    place.encrypt("vault_vllm_key", PLANTED)
    assert place.run(*password) == 2
    words = (
        "vllm_api_key Missing or unreadable secret: vault_vllm_key cannot be decrypted. Remedy: "
    )
    assert words + "Give the vault's password with --vault-password-file" in place.output
    assert "Missing or unreadable secret: vault_chat_key is not defined" in place.output


def test_readable_secrets(place: Place) -> None:
    place.write(vllm_api_key="{{ vault_vllm_key }}")
    place.encrypt("vault_vllm_key", PLANTED)
    assert place.run_inventory("--vault-password-file", "password", "-vvv") == 0, place.output
    assert PLANTED not in place.output


def test_a_file_encrypted_as_a_whole_is_refused_by_ansible(place: Place) -> None:
    place.write()
    file = place.path / "group_vars" / "all.yml"
    file.parent.mkdir()
    file.write_text("vault_vllm_key: x\n")
    call("ansible-vault", "encrypt", "--vault-password-file", "password", file, cwd=place.path)
    assert place.run("--vault-password-file", "wrong") == 4
    assert "Decryption failed" in place.output


def test_no_report(place: Place) -> None:
    place.write(vllm_watch_failures=0)
    assert place.run("-e", "preflight_report_path=") == 2
    assert not (place.path / "gpufleet-preflight.json").exists()


def test_report_that_cannot_be_written(place: Place) -> None:
    place.write()
    assert place.run("-e", "preflight_report_path=/nowhere/report.json") == 2
    assert "/nowhere/report.json cannot be written" in place.output
    assert "Remedy: set preflight_report_path" in place.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "vault_vllm_key cannot be decrypted"),
        (("--vault-password-file", "example"), "vllm_api_key It is still a placeholder."),
    ],
)
def test_production_as_it_comes_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "example").write_text("example")
    production = ROOT / "inventories" / "production"
    done = call("ansible-playbook", "-i", production, PREFLIGHT, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    output = re.sub(r"\s+", " ", done.stdout)
    for word in (words, "REPLACE_WITH_A_COMMIT", "a name for examples: llm.example.com"):
        assert word in output


@pytest.mark.parametrize(
    "inventory",
    [
        "inventories/local",
        "molecule/default/inventory",
        "molecule/gateway/inventory",
        "molecule/resilience/inventory",
    ],
)
def test_our_own_inventories_pass(place: Place, inventory: str) -> None:
    playbook = place.path / "inventory_only.yml"
    playbook.write_text(ONLY_THE_INVENTORY)
    done = call("ansible-playbook", "-i", ROOT / inventory, playbook, cwd=place.path)
    assert done.returncode == 0, done.stdout


def report_of(place: Place, inventory: tuple[dict[str, Any], ...] = (), **results: Any) -> int:
    """Run the report on what was found in the `inventory` and by `host_check` on every host."""
    place.write(hosts=tuple(results))
    tasks: list[dict[str, Any]] = [
        *inventory,
        {"ansible.builtin.set_fact": {"__preflight_host": "{{ seen[inventory_hostname] }}"}},
        {"gpufleet.llm.preflight_report": {"report_path": "r.json"}, "run_once": True},
    ]
    play = {"hosts": "all", "gather_facts": False, "vars": {"seen": results}, "tasks": tasks}
    playbook = place.path / "report.yml"
    playbook.write_text(yaml.safe_dump([play]))
    return place.run(playbook=playbook)


def test_report_of_fit_hosts(place: Place) -> None:
    fit = {"changed": False, "findings": [], "checked": {"disk": "80 GiB free"}}
    assert report_of(place, one=fit, two=fit) == 0, place.output
    report = json.loads((place.path / "r.json").read_text())
    assert report["findings"] == []
    assert report["hosts"]["two"]["host"] == {"disk": "80 GiB free"}


def test_what_does_not_refuse_is_told_and_reported(place: Place) -> None:
    told = [
        {"variable": "gpus[0]", "problem": "It sleeps.", "remedy": "W.", "severity": "warning"},
        {"variable": "gpus[1]", "problem": "It is far.", "remedy": "A.", "severity": "advice"},
    ]
    seen = {"findings": told, "checked": {"gpus": "2 x NVIDIA H200"}, "gpus": {"cards": []}}
    assert report_of(place, one=seen, two=seen) == 0, place.output
    assert "[WARNING]: one, two: gpus[0] It sleeps. Remedy: W." in place.output
    assert "It is far" not in place.output
    report = json.loads((place.path / "r.json").read_text())
    severities = [finding["severity"] for finding in report["findings"]]
    assert severities == ["warning", "advice", "warning", "advice"]
    assert report["hosts"]["one"]["gpus"] == {"cards": []}
    text = (place.path / "r.txt").read_text()
    assert text == (
        "Refused: none\n\nWarnings: 1\n\none, two: gpus[0]\n    It sleeps.\n    Remedy: W.\n\n"
        "Advice: 1\n\none, two: gpus[1]\n    It is far.\n    Remedy: A.\n\n"
        "one\n    gpus  2 x NVIDIA H200\n\ntwo\n    gpus  2 x NVIDIA H200\n"
    )
    assert (place.path / "r.txt").stat().st_mode & 0o777 == 0o600


def test_warnings_of_the_inventory_stay_in_the_report(place: Place) -> None:
    found = {"variable": "chainlit_database_url", "problem": "P.", "remedy": "R."}
    seen = {"checked": {"one": {}}, "findings": [{"host": "one", "severity": "warning", **found}]}
    fit = {"changed": False, "findings": [], "checked": {}}
    inventory = {"ansible.builtin.set_fact": {"__preflight_inventory": seen}}
    assert report_of(place, (inventory,), one=fit) == 0, place.output
    report = json.loads((place.path / "r.json").read_text())
    assert [finding["severity"] for finding in report["findings"]] == ["warning"]


def test_warnings_beside_errors_do_not_hide_them(place: Place) -> None:
    told = [
        {"variable": "gpus[0]", "problem": "It sleeps.", "remedy": "W.", "severity": "warning"},
        {"variable": "disk", "problem": "Too little.", "remedy": "E.", "severity": "error"},
    ]
    assert report_of(place, one={"findings": told, "checked": {}}) == 2
    assert "Refused before anything was changed, 1 finding: one: disk Too little." in place.output
    assert "[WARNING]: one: gpus[0] It sleeps." in place.output


def test_report_of_unfit_and_unreachable_hosts(place: Place) -> None:
    finding = {"variable": "disk", "problem": "Too little.", "remedy": "Add some."}
    unfit = {"findings": [finding], "checked": {}}
    unreachable = {"unreachable": True, "msg": "Connection timed out"}
    broken = {"failed": True, "msg": "no python3"}
    assert report_of(place, one=unfit, two=unreachable, three=broken, four=unfit) == 2
    for words in (
        "3 findings",
        "four, one: disk Too little. Remedy: Add some.",
        "two: ansible_host It cannot be reached: Connection timed out Remedy: ",
        "answers pong; or leave it out: --limit 'all:!two'.",
        "three: host_check It could not be checked: no python3 Remedy: ",
    ):
        assert words in place.output, words
