#!/usr/bin/env bash
# Installs the development tools into .venv, with the versions of requirements-dev.lock.
# Safe to run again: what is there is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

uv_version=0.13.9
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  printf '\nPython is %s, the tools need 3.11 or newer.\n  Remedy: put a newer python3 first in PATH\n' \
    "$(python3 -V | cut -d' ' -f2)" >&2
  exit 1
}
if [ ! -x .venv/bin/uv ] || [ requirements-dev.lock -nt .venv/.synced ]; then
  echo "Installing the development tools into .venv"
  [ -x .venv/bin/pip ] || python3 -m venv --clear .venv
  .venv/bin/pip install --quiet --disable-pip-version-check "uv==$uv_version"
  .venv/bin/uv pip sync --quiet --python .venv/bin/python --require-hashes requirements-dev.lock
  touch .venv/.synced
fi
