#!/usr/bin/env bash
# Stops every test host that runs; `make demo` starts the demo's again, with all that was on it.
# Two instances of vLLM on the CPU choose the same cores and starve each other.
set -euo pipefail
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
for container in $("${as_root[@]}" podman ps --quiet --filter name=^gpufleet-); do
  echo "Stopping the test host $("${as_root[@]}" podman inspect --format '{{.Name}}' "$container")"
  "${as_root[@]}" podman stop --time 60 "$container" >/dev/null
done
