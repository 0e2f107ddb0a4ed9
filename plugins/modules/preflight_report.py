#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Gather what was found on all hosts, and fail with all of it
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Reads what the role C(preflight) registered on every host of the play as C(__preflight_host),
    and fails with all findings at once where one of them is an error. Warnings are shown as such,
    and advice stands in the report. Hosts that could not be reached, and hosts whose check broke,
    are errors too.
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
- name: Report
  gpufleet.llm.preflight_report:
    report_path: gpufleet-preflight.json
  run_once: true
"""

RETURN = r"""
findings:
  description: What was found, as the module M(gpufleet.llm.inventory_check) returns it.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """The action plugin of this name does it all."""
    module = AnsibleModule(
        argument_spec={"report_path": {"type": "str", "default": ""}}, supports_check_mode=True
    )
    module.fail_json(
        msg="It runs on the control node. Remedy: call it as gpufleet.llm.preflight_report."
    )


if __name__ == "__main__":
    main()
