#!/usr/bin/env bash
# run.sh PROGRAM OUTPUT [ARGUMENT...]: on the machine with the GPU, once the bundle is unpacked.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$1 output=$2
shift 2
paths=("$PWD"/{.collections,files/guard,files/bench,plugins/module_utils,tests/gpu/host,tests/gpu/throughput})
PYTHONPATH=$(IFS=:; echo "${paths[*]}") PYTHONUNBUFFERED=1 python3 "tests/gpu/$program" .cache/gpu/rendered "$output" "$@"
