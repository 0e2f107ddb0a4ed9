#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: inventory_check
short_description: Check the whole inventory, before any connection
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Looks at every host of the inventory on the control node, whatever the play is limited to, and
    fails with all findings at once. Each names host, variable, problem and remedy.
  - Finds hosts without a group; variables that no role has, of wrong types or out of range;
    placeholders; secrets that are missing, unreadable, weak or used twice; ports and GPUs that two
    programs would take; options that the locked vLLM does not know; times, keys and addresses that
    do not fit together; and in production all that may be left out only for a trial.
  - The values of secrets are never shown.
attributes:
  check_mode:
    description: Runs as usual, as nothing but the report is written.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  action:
    description: Runs on the control node alone; run it once.
    support: full
options:
  report_path:
    description:
      - File of the control node that gets the findings as JSON, mode C(0600), in check mode too. It
        is never counted as a change. Empty for none.
      - Beside it, the same name with the ending C(.txt) holds them for people to read.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Check the inventory
  gpufleet.llm.inventory_check:
    report_path: gpufleet-preflight.json
  run_once: true
"""

RETURN = r"""
findings:
  description: What was found, by host and variable.
  type: list
  elements: dict
  returned: always
  contains:
    host:
      description: The host, or several with commas where all have the same finding.
      type: str
    variable:
      description: Path of the variable.
      type: str
      sample: vllm_instances[qwen3].port
    problem:
      description: What is wrong.
      type: str
    remedy:
      description: What to do about it.
      type: str
    severity:
      description: C(error) refuses; C(warning) and C(advice) do not.
      type: str
checked:
  description: By host, the roles whose variables were checked.
  type: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """The action plugin of this name does it all."""
    module = AnsibleModule(
        argument_spec={"report_path": {"type": "str", "default": ""}}, supports_check_mode=True
    )
    module.fail_json(
        msg="It runs on the control node. Remedy: call it as gpufleet.llm.inventory_check."
    )


if __name__ == "__main__":
    main()
