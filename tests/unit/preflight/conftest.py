"""What `ansible-playbook` sets up before it runs a task: Ansible's own plugins, and ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader

sys.path.insert(0, str(Path(__file__).resolve().parent / "samples"))


@pytest.fixture(autouse=True, scope="session")
def plugins() -> None:
    """Make filters and lookups known to templates."""
    init_plugin_loader([str(Path(__file__).resolve().parents[3] / ".collections")])
