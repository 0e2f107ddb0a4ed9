"""What the role's variables and templates say on a host of a given system."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.llm.plugins.plugin_utils._role_variables import ROOT, load_roles

ROLE = ROOT / "roles/nvidia_driver"
FACTS: dict[str, dict[str, str]] = {
    "Debian": {"distribution_major_version": "12", "distribution_release": "bookworm"},
    "Ubuntu": {"distribution_version": "24.04", "distribution_release": "noble"},
    "RedHat": {"distribution": "Rocky", "distribution_major_version": "9"},
}


@dataclass(frozen=True)
class Rendered:
    """The role on a host with one H200; `variables` are the operator's."""

    system: str
    variables: dict[str, Any] = field(default_factory=dict)

    def value(self, text: str) -> Any:
        """What a template gives there."""
        loader = DataLoader()
        role = load_roles(loader)["nvidia_driver"]
        file = str(ROLE / "vars" / f"{self.system}.yml")
        known = {
            **role.defaults,
            **role.private,
            **loader.load_from_file(file, trusted_as_template=True),
            "ansible_facts": {"architecture": "x86_64", **FACTS[self.system]},
            "ansible_managed": "managed",
            "__nvidia_driver_open": True,
            **self.variables,
        }
        return Templar(loader=loader, variables=known).template(trust_as_template(text))

    def file(self, name: str) -> str:
        """The text of a file that a template writes."""
        return str(self.value((ROLE / "templates" / name).read_text()))
