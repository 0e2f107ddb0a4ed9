#!/usr/bin/env bash
# bundle.sh: packs vLLM for a machine that has a GPU and PyTorch but no network.
# Writes .cache/gpu/bundle.00 and on, each small enough to be carried alone; take.sh takes them.
set -euo pipefail
cd "$(dirname "$0")/../.."
output=.cache/gpu
part_mebibytes=50
# What xz needs for half a gigabyte is hardly felt by others this way.
gently=(nice -n 19 ionice -c 3)

tree=$(mktemp --directory)
trap 'rm -rf "$tree"' EXIT
"${gently[@]}" uv pip install --quiet --target "$tree" --no-deps --require-hashes --only-binary :all: \
  --python-version 3.12 --python-platform x86_64-manylinux_2_39 \
  --requirements tests/gpu/bundle/requirements.lock

# Kernels for cards before and after Hopper, a second front end, data of other models.
rm -r "$tree"/vllm/vllm_flash_attn/_vllm_fa2_C.*.so "$tree"/vllm/third_party/fmha_sm100 \
  "$tree"/vllm/vllm-rs "$tree"/xgrammar/lib "$tree"/pycountry/locales "$tree"/mistral_common/data/tekken_*.json

mkdir -p "$output"
rm -f "$output"/bundle.*
# The same files give the same archive.
tar --create --directory "$tree" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner . |
  "${gently[@]}" xz -6 --threads=2 |
  split --bytes="${part_mebibytes}M" --numeric-suffixes --suffix-length=2 - "$output/bundle."
(cd "$output" && sha256sum bundle.[0-9]*) >"$output/bundle.sha256"
ls -l "$output"
