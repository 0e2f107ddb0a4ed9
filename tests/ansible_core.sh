#!/usr/bin/env bash
# ansible_core.sh CORE...: makes sure that the development tools are there with each of these versions of ansible-core.
set -euo pipefail
cd "$(dirname "$0")/.."

refuse() {
  printf '\nNothing can be tested with ansible-core %s: %s\n  Remedy: %s\n' "$core" "$1" "$2" >&2
  exit 1
}

core_of() {
  "$1/bin/python" -c 'from ansible.release import __version__ as v; print(*v.split(".")[:2], sep=".")'
}

# build PYTHON VENV: the tools as requirements-dev.lock has them for that Python.
build() {
  if [ -e "$2/.synced" ] && [ ! requirements-dev.lock -nt "$2/.synced" ]; then
    return
  fi
  # uv looks in PATH, where pyenv shows only the versions that are switched on, and then fetches one.
  if command -v pyenv >/dev/null; then
    PATH=$PATH:$(printf '%s:' "$(pyenv root)"/versions/"$1".*/bin)
  fi
  export UV_PYTHON_INSTALL_DIR=${GPUFLEET_CACHE:-$HOME/.cache/gpufleet}/python
  .venv/bin/uv venv --quiet --clear --python "$1" "$2" \
    || refuse "no Python $1 was found on this machine, and none could be fetched" \
      "install it so that python$1 is in PATH, or with pyenv, or with 'uv python install $1'"
  .venv/bin/uv pip sync --quiet --python "$2/bin/python" --require-hashes requirements-dev.lock
  touch "$2/.synced"
}

for core in "$@"; do
  case "$core" in
    2.19)
      # Made by molecule/test_hosts/setup.sh.
      venv=.venv
      remedy="put a python3 of version 3.11 first in PATH, remove .venv, and run 'make setup'"
      ;;
    2.21)
      venv=.cache/ansible-2.21
      remedy="choose the Python of tests/ansible_core.sh that requirements-dev.lock has this version for"
      build 3.13 "$venv"
      ;;
    *) refuse "it is not among those that are tested" "use 2.19 or 2.21" ;;
  esac
  [ "$(core_of "$venv")" = "$core" ] || refuse "$venv holds $(core_of "$venv")" "$remedy"
done
