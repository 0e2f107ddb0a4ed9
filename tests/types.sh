#!/usr/bin/env bash
# types.sh CHAT_PYTHON ALERT_PYTHON: mypy over every part, each with the modules it finds beside it on its host.
set -euo pipefail
cd "$(dirname "$0")/.."
MYPYPATH=.collections mypy -p ansible_collections.gpufleet.llm.plugins
MYPYPATH=files/guard:plugins/module_utils mypy files/guard
mypy files/locks
MYPYPATH=.collections:files/guard:files/bench:tests/gpu/throughput:tests/gpu/host:plugins/module_utils:tests/unit/probe:tests/unit/preflight/samples:molecule/test_hosts mypy tests/unit
MYPYPATH=tests:tests/browser:files/chat/tests mypy tests/browser tests/get_pip.py
MYPYPATH=docs mypy docs
MYPYPATH=molecule/test_hosts:molecule/default/tests mypy molecule/test_hosts molecule/default/tests
MYPYPATH=molecule/test_hosts:molecule/production/tests mypy molecule/production/tests
MYPYPATH=molecule/test_hosts mypy molecule/gateway
MYPYPATH=molecule/test_hosts:molecule/driver/tests mypy molecule/driver
MYPYPATH=molecule/test_hosts:molecule/resilience/tests:tests:tests/browser:files/alert/tests mypy molecule/resilience
MYPYPATH=molecule/test_hosts mypy tests/bench/recovery
mypy files/bench
MYPYPATH=.collections:files/guard:files/bench:plugins/module_utils:tests/gpu/host:tests/gpu/throughput mypy tests/gpu
MYPYPATH=files/chat:files/chat/tests:tests mypy --python-executable "$1" files/chat
MYPYPATH=tests:tests/bench/chat mypy --python-executable "$1" tests/bench/chat
MYPYPATH=files/alert:files/alert/tests mypy --python-executable "$2" files/alert
