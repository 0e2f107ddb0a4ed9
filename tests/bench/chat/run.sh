#!/usr/bin/env bash
# run.sh PLOT_PYTHON: what the chat adds to each token, beside `chainlit run` and the stream itself.
# Writes tests/output/chat.json and chat.svg; fails where a bound is not kept.
set -euo pipefail
cd "$(dirname "$0")/../../.."
plot_python=$1
here=tests/bench/chat output=tests/output
chat_python=.cache/chat-venv/bin/python plain_venv=.cache/plain-chat-venv
mkdir -p "$output"

make --no-print-directory "$chat_python"
if [ ! -e "$plain_venv/.synced" ] || [ "$here/plain.lock" -nt "$plain_venv/.synced" ]; then
  uv venv --quiet --clear --python "$(command -v python)" "$plain_venv"
  uv pip sync --quiet --python "$plain_venv/bin/python" --require-hashes \
    --build-constraints files/locks/build.txt "$here/plain.lock"
  touch "$plain_venv/.synced"
fi
status=0
"$chat_python" "$here/measure.py" "$plain_venv/bin/python" "$output/chat.json" || status=$?
# Numbers out of bounds are drawn too.
[ ! -e "$output/chat.json" ] || "$plot_python" "$here/plot.py" "$output/chat.json" "$output/chat.svg"
exit "$status"
