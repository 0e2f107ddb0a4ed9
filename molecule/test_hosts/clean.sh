#!/usr/bin/env bash
# Removes all that the demo and the tests made on this machine, except for apt packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
if command -v podman >/dev/null; then
  for container in $("${as_root[@]}" podman ps --all --quiet --filter name=^gpufleet-); do
    "${as_root[@]}" podman rm --force --volumes --time 5 "$container"
  done
  for image in $("${as_root[@]}" podman images --quiet --filter reference='localhost/gpufleet-test/*'); do
    "${as_root[@]}" podman rmi --force "$image"
  done
  if "${as_root[@]}" podman network exists gpufleet-test; then
    "${as_root[@]}" podman network rm gpufleet-test
  fi
fi
# The test hosts write into the cache as root.
"${as_root[@]}" rm -rf "${GPUFLEET_CACHE:-$HOME/.cache/gpufleet}" .cache .venv .ansible .mypy_cache .pytest_cache .ruff_cache
