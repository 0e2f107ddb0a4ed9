#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs a step, prints how long it took, and ends with what failed in it.
# step.sh summary: prints the time of every step.
set -uo pipefail
times=.cache/step-times
mkdir -p .cache/step-logs
if [ "$1" = summary ]; then
  printf '\nTime of each step:\n'
  cat "$times"
  rm -f "$times"
  exit 0
fi
name=$1
shift
[ "$name" != "Set up this machine" ] || rm -f "$times"
printf '\n==> %s\n' "$name"
started=$SECONDS
# Steps run beside each other.
log=.cache/step-logs/${name//[^a-zA-Z0-9.]/-}.log
# No pipe: one ends only when every daemon that the step has started lets go of it.
"$@" > >(tee "$log") 2>&1
status=$?
sleep 0.2 # for tee's last lines
if [ "$status" -ne 0 ]; then
  # Tools print summaries after the failure: here it is again, where a reader of the end finds it.
  printf '\nWhat failed (all of it: %s):\n' "$log"
  plain=$(sed 's/\x1b\[[0-9;]*m//g' "$log")
  found=$(grep -E -A 6 '^ *(fatal:|failed:|FAILED |E  |msg: |stderr: )' <<<"$plain")
  tail -40 <<<"${found:-$(tail -15 <<<"$plain")}" | cut -c -400
fi
printf '%6d s  %s%s\n' "$((SECONDS - started))" "$name" "$([ "$status" = 0 ] || echo "  FAILED")" | tee -a "$times"
exit "$status"
