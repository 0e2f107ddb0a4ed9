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
# The version that ansible-test asks for is in the name.
get_pip=~/.ansible/test/cache/get_pip_24_2.py
[ -s "$get_pip" ] || cp tests/get_pip.py "$get_pip"
cd "$place/ansible_collections/gpufleet/llm"
ansible-test sanity --venv --python "$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')" "$@"
