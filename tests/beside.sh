#!/usr/bin/env bash
# beside.sh TARGET SHOWN: makes both targets at once. TARGET gets only time that SHOWN leaves, and its
# output follows when it ends. Where one fails, the other is ended.
set -uo pipefail
log=.cache/beside.log
# Groups of their own, so that each can be ended whole.
set -m
nice -n 19 make --no-print-directory "$1" >"$log" 2>&1 </dev/null &
beside=$!
make --no-print-directory "$2" </dev/null &
shown=$!
trap 'kill -TERM -- "-$beside" "-$shown" 2>/dev/null' EXIT
wait -n -p ended "$beside" "$shown"
status=$?
if [ "$status" -eq 0 ] && [ "$ended" = "$shown" ]; then
  wait "$beside"
  status=$?
  ended=$beside
fi
[ "$ended" != "$beside" ] || cat "$log"
if [ "$status" -eq 0 ]; then
  wait "$shown"
  status=$?
fi
exit "$status"
