#!/usr/bin/env bash
# describe.sh: what the machine says of its GPU and driver.
for command in "uname -a" "nvidia-smi" "nvidia-smi -q" "cat /proc/driver/nvidia/version" \
  "ls -l /dev/nvidia0 /dev/nvidiactl /dev/nvidia-uvm" "head -c 2000 /proc/modules" "lscpu" "df -h /dev/shm /tmp" \
  "python3 --version" "/usr/bin/python3 --version" "python3 -m pip list" "which gcc nvcc xz"; do
  printf '\n$ %s\n' "$command"
  $command 2>&1
done
for device in /sys/bus/pci/devices/*; do
  printf '%s %s %s %s numa %s\n' "${device##*/}" "$(cat "$device/vendor")" "$(cat "$device/device")" \
    "$(cat "$device/class")" "$(cat "$device/numa_node" 2>/dev/null)"
done
