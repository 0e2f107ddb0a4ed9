"""The rollback of a release that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.ansible_command import ROOT, call


@pytest.mark.parametrize("service", ["vllm", "chainlit"])
def test_check_mode_names_what_there_is(tmp_path: Path, service: str) -> None:
    """As without check mode, whatever is on this machine."""
    here = {"ansible_connection": "local", "ansible_become": False}
    python = {"ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    instance = {"name": "m", "model": "o/m", "revision": "r", "served_model_name": "m", "port": 1}
    one = {"hosts": {"gpu1": {"vllm_instances": [instance]}}}
    groups = {"inference": one, "chat": one, "gateway": one, "all": {"vars": {**here, **python}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(groups))
    asked = ("-e", f"rollback_service={service}", "-e", "rollback_release=nosuchrelease")
    play = ROOT / "playbooks" / "rollback.yml"
    done = call("ansible-playbook", "-i", "hosts.yml", play, "--check", *asked, cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert f"no release nosuchrelease in /opt/gpufleet/{service}/releases. There is:" in said, said
    assert "undefined" not in said
