#!/usr/bin/env bash
# ansible-test wants a collection under ansible_collections/: build it as for a release, and test what was built.
set -euo pipefail
cd "$(dirname "$0")/.."
# Outside the checkout, where ansible-test would ask git which files are the collection's.
place=${GPUFLEET_CACHE:-$HOME/.cache/gpufleet}/sanity
rm -rf "$place"
mkdir -p "$place" ~/.ansible/test/cache
ansible-galaxy collection build --force --output-path "$place" >/dev/null
ansible-galaxy collection install --offline --force --collections-path "$place" "$place"/gpufleet-llm-*.tar.gz >/dev/null 2>&1
# In the name: the version of pip that ansible-test asks for, of ansible-core 2.19 and of 2.21.
for version in 24_2 25_2; do
  get_pip=~/.ansible/test/cache/get_pip_$version.py
  [ -s "$get_pip" ] || cp tests/get_pip.py "$get_pip"
done
cd "$place/ansible_collections/gpufleet/llm"
ansible-test sanity --venv --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "$@"
