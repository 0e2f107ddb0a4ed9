#!/usr/bin/env bash
# prepare.sh: makes all that the machine with the GPU is sent: .cache/gpu.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -e .cache/gpu/bundle.sha256 ] || tests/gpu/bundle.sh
rm -rf .cache/gpu/rendered
PYTHONPATH=.collections python tests/gpu/render.py .cache/gpu/rendered
