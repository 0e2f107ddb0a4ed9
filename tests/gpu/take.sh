#!/usr/bin/env bash
# take.sh: on the machine with the GPU, keeps the parts of the bundle that came with this call, and
# unpacks it once all are there. Parts may come in any order.
set -euo pipefail
cd "$(dirname "$0")/../.."
place=/tmp/gpufleet-gpu
mkdir -p "$place"
cp .cache/gpu/bundle.* "$place"
cd "$place"
if ! sha256sum --check --status bundle.sha256 2>/dev/null; then
  echo "Parts of $(wc -l <bundle.sha256) are here:" bundle.[0-9]*
  exit
fi
mkdir bundle
cat bundle.[0-9]* | xz --decompress --threads=0 | tar --extract --directory bundle
rm bundle.[0-9]*
# As in a release: else every process of vLLM compiles what it imports, PyTorch too, at each start.
packages=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python3 -m compileall -q -j 0 bundle "$packages" >/dev/null 2>&1 || true
echo "Unpacked $(du -sh bundle | cut -f 1)"
