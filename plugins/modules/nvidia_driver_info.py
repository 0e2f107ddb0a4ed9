#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_driver_info
short_description: Tell which GPUs a host has, and what of NVIDIA's driver
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Finds GPUs and NVSwitches by PCI, so a host without a driver tells as much as one with it.
  - Compares what can disagree, which is the module that is loaded, the module of each installed
    kernel, and the libraries.
attributes:
  check_mode:
    description: Changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Look at the GPUs and their driver
  gpufleet.llm.nvidia_driver_info:
  register: driver

- name: Say what the running kernel has
  ansible.builtin.debug:
    msg: "{{ driver.gpus | length }} GPUs, driver {{ driver.loaded_version or 'not loaded' }}"
"""

RETURN = r"""
gpus:
  description:
    - The GPUs of NVIDIA, each with C(address) and C(device), its PCI device id, and whether the
      open (C(open_modules)) and the proprietary (C(proprietary_modules)) kernel modules support it.
  type: list
  elements: dict
  returned: always
nvswitches:
  description: Number of NVSwitches. With any, the GPUs need Fabric Manager.
  type: int
  returned: always
running_kernel:
  description: Release of the kernel that runs.
  type: str
  returned: always
  sample: 6.1.0-40-amd64
kernels:
  description:
    - The installed kernels, each with its C(release), whether its C(headers) are there, the version
      of the driver's C(module) for it, and what C(dkms) says of that.
  type: list
  elements: dict
  returned: always
loaded_version:
  description: Version of the loaded module, empty when none is.
  type: str
  returned: always
  sample: 580.95.05
loaded_modules:
  description: Modules of the driver that are loaded, in the order in which they can be removed.
  type: list
  elements: str
  returned: always
rival_modules:
  description: Loaded modules of other drivers for the same GPUs, such as nouveau.
  type: list
  elements: str
  returned: always
library_version:
  description: Version of the user space, empty when there is none.
  type: str
  returned: always
fabric_manager_version:
  description: Version of Fabric Manager, empty when there is none.
  type: str
  returned: always
secure_boot:
  description: Whether Secure Boot is on.
  type: bool
  returned: always
signing_key_enrolled:
  description: With Secure Boot, whether the firmware knows the key that DKMS signs with.
  type: bool
  returned: always
runfile:
  description: Whether the driver was installed by NVIDIA's C(.run) file, which no package knows of.
  type: bool
  returned: always
holders:
  description: Processes that have a GPU open, but for the driver's own daemons.
  type: list
  elements: str
  returned: always
build_log:
  description: Last lines of the newest log of a build by DKMS.
  type: list
  elements: str
  returned: always
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils._driver_state import state


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)

    def ask(command: list[str]) -> str:
        found = module.get_bin_path(command[0])
        if found is None:
            return ""
        status, output, errors = module.run_command([found, *command[1:]])
        # mokutil tells of an enrolled key with status 1.
        return f"{output}{errors}" if status == 0 or command[0] == "mokutil" else ""

    module.exit_json(changed=False, **state(Path("/"), ask, os.uname().release))


if __name__ == "__main__":
    main()
