#!/usr/bin/python
# Copyright: The gpufleet maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: What a host has of NVIDIA GPUs, and of their driver
version_added: 0.1.0
author: The gpufleet maintainers (@gpufleet)
description:
  - Finds cards and NVSwitches on the PCI bus, so that it works without a driver as well.
  - The driver's own library, NVML, tells of the cards; its module, the kernel log, C(modinfo),
    C(dkms) and the firmware tell of the driver. No text of C(nvidia-smi) is read.
  - What a host lacks is empty, and never an error. Nothing is judged here, but by
    M(gpufleet.llm.host_check).
  - All is returned as RV(gpus); no fact of the host is set.
attributes:
  check_mode:
    description: The same as without it.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
options:
  root:
    description:
      - Directory below which C(sys), C(proc), C(dev) and C(lib) are read. Of another one than C(/),
        NVML tells nothing.
    type: path
    default: /
seealso:
  - module: gpufleet.llm.host_check
"""

EXAMPLES = r"""
- name: Look at the GPUs
  gpufleet.llm.gpu_facts:
  register: found

- name: Show the cards
  ansible.builtin.debug:
    msg: "{{ found.gpus.cards | map(attribute='name') }}"
"""

RETURN = r"""
gpus:
  description: The GPUs of the host and their driver.
  type: dict
  returned: always
  contains:
    cards:
      description: Every GPU, in the order of addresses, which is that of C(gpus) of an instance.
      type: list
      elements: dict
      contains:
        index:
          description: Its index.
          type: int
        address:
          description: Its address on the PCI bus.
          type: str
          sample: 0000:3b:00.0
        device_id:
          description: Its PCI device, which tells the model where there is no driver.
          type: str
          sample: "0x2335"
        numa_node:
          description: Its NUMA node, null where the firmware tells none.
          type: int
        answers:
          description: Whether it answers on the bus.
          type: bool
        xids:
          description: Numbers of the errors that the driver reported for it since the host's start.
          type: list
          elements: int
        name:
          description: Its name. This and what follows is null where NVML does not tell it.
          type: str
          sample: NVIDIA H200
        uuid:
          description: Its UUID.
          type: str
        memory_total:
          description: Bytes of memory.
          type: int
        memory_used:
          description: Bytes that are in use.
          type: int
        compute_capability:
          description: Its compute capability.
          type: str
          sample: "9.0"
        mig:
          description: Whether it is cut into parts (MIG).
          type: bool
        ecc:
          description: Uncorrectable memory errors, null where it does not count them.
          type: dict
          contains:
            volatile:
              description: Those since the driver was loaded.
              type: int
            aggregate:
              description: Those of its life.
              type: int
            pending:
              description: Whether bad memory will be replaced at the next reset.
              type: bool
            failed:
              description: Whether bad memory could not be replaced.
              type: bool
        persistence:
          description: Whether the driver stays awake while nothing uses it.
          type: bool
        processes:
          description: Processes that compute on it.
          type: list
          elements: dict
          contains:
            pid:
              description: Number of the process.
              type: int
            name:
              description: Its name.
              type: str
            unit:
              description: Its unit of systemd.
              type: str
              sample: vllm@qwen3.service
            memory:
              description: Bytes of the card's memory that it holds.
              type: int
        error:
          description: Why NVML tells nothing of it. Empty where it does.
          type: str
    lost:
      description: Addresses of cards that have fallen off the bus.
      type: list
      elements: str
    switches:
      description: Addresses of NVSwitches.
      type: list
      elements: str
    driver:
      description: The driver's module.
      type: dict
      contains:
        loaded:
          description: Version of the loaded module, null without one.
          type: str
          sample: 580.95.05
        open_module:
          description: Whether that is the open one.
          type: bool
        modules:
          description: >-
            Loaded modules of the driver, in the order in which they can be removed, and then those
            of other drivers for the same cards, such as nouveau.
          type: list
          elements: str
          sample: [nvidia_uvm, nvidia]
        devices:
          description: Names of its devices in C(/dev).
          type: list
          elements: str
          sample: [nvidia-uvm, nvidia0, nvidiactl]
        holders:
          description: Processes that keep it from being unloaded, by C(pid), C(name) and C(unit).
          type: list
          elements: dict
        kernels:
          description: >-
            Every installed kernel: C(release), whether it is C(running), whether its C(headers) are
            there, version and C(signer) of the C(module) for it, and the state that C(dkms) tells.
          type: list
          elements: dict
        dkms:
          description: Version that dkms is to build, null without one.
          type: str
        build_log:
          description: >-
            Where a kernel lacks its module, the errors in the newest log of a build by dkms, or its
            last lines.
          type: list
          elements: str
        runfile:
          description: Whether NVIDIA's C(.run) file installed it, which no package knows of.
          type: bool
        secure_boot:
          description: Whether Secure Boot is on.
          type: bool
        own_key_enrolled:
          description: Whether the firmware knows the key of the host's own modules, null without.
          type: bool
    user_space:
      description: Version of the driver's libraries, null without any.
      type: str
    cuda:
      description: Newest CUDA that the driver can.
      type: str
      sample: "13.0"
    nvml_status:
      description: Number that NVML gave for not working, 18 for a module of another version.
      type: int
    nvml_error:
      description: Why NVML tells nothing. Empty where it does.
      type: str
    log_error:
      description: Why the kernel log cannot be read. Empty where it can.
      type: str
    fabric_manager:
      description: Version of the Fabric Manager, null without one.
      type: str
    fabric_manager_active:
      description: Whether it runs.
      type: bool
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.llm.plugins.module_utils._gpu_facts import read_gpus


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}}, supports_check_mode=True
    )
    gpus = read_gpus(module.run_command, Path(module.params["root"]))
    module.exit_json(changed=False, gpus=gpus.as_dict())


if __name__ == "__main__":
    main()
