#!/usr/bin/env bash
# run.sh PLOT_PYTHON: how long until the first token, on a fresh host of molecule/resilience.
# Writes tests/output/recovery.json and recovery.svg; fails where a bound is not kept.
set -euo pipefail
cd "$(dirname "$0")/../../.."
plot_python=$1
here=tests/bench/recovery output=tests/output
mkdir -p "$output"

molecule destroy --scenario-name resilience
trap 'molecule destroy --scenario-name resilience' EXIT
for step in create prepare converge; do
  molecule "$step" --scenario-name resilience
done
status=0
TEST_HOST=10.89.87.40 TEST_CONTAINER=gpufleet-resilience1 TEST_SSH_KEY=${GPUFLEET_CACHE:-$HOME/.cache/gpufleet}/ssh/id_ed25519 \
  PYTHONPATH=molecule/test_hosts python "$here/measure.py" "$output/recovery.json" || status=$?
# Numbers out of bounds are drawn too.
[ ! -e "$output/recovery.json" ] || "$plot_python" "$here/plot.py" "$output/recovery.json" "$output/recovery.svg"
exit "$status"
