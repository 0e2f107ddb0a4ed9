#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs a step and prints how long it took; step.sh summary: prints all of them.
set -uo pipefail
times=.cache/step-times
mkdir -p .cache
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
"$@"
status=$?
printf '%6d s  %s%s\n' "$((SECONDS - started))" "$name" "$([ "$status" = 0 ] || echo "  FAILED")" | tee -a "$times"
exit "$status"
