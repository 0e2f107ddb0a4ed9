"""The sandbox of nginx acts, on its master and on its workers, from the first start on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sandbox import NOT_IN_KERNEL, Sandbox
from sandbox_probe import ATTEMPTS

from .conftest import on_host

# CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID, NET_BIND_SERVICE: bits of linux/capability.h.
RIGHTS = sum(1 << bit for bit in (0, 1, 5, 6, 7, 10))
# The master is root, which is why it may become it, and which /proc shows everything to.
PERMITTED: dict[str, set[str]] = {
    "master": {"become root", "run a setuid program", "see processes of others"},
    "worker": set(),
}
WRITES = {
    "master": ["/var/log/gpufleet", "/var/log/nginx", "/var/lib/nginx", "/run", "/tmp"],
    "worker": ["/var/lib/nginx/body", "/tmp"],
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """nginx's sandbox, laid out for the probe."""
    prepared = Sandbox(on_host, "nginx.service", "www-data")
    yield prepared
    prepared.clear()


@pytest.fixture(scope="module")
def as_root(sandbox: Sandbox) -> dict[str, str]:
    """What the probe reports as root in no sandbox."""
    return sandbox.outside("root")


@pytest.fixture(scope="module", params=["master", "worker"])
def process(request: pytest.FixtureRequest) -> str:
    """One of nginx's two kinds of process."""
    return str(request.param)


@pytest.fixture(scope="module")
def inside(sandbox: Sandbox, process: str) -> dict[str, str]:
    """What the probe reports in nginx's place, with the rights of master or worker."""
    settings = "User=www-data\nGroup=www-data" if process == "worker" else ""
    return sandbox.inside(*WRITES[process], settings=settings)


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_is_refused(
    process: str, inside: dict[str, str], as_root: dict[str, str], attempt: str
) -> None:
    assert (inside[attempt] == "done") == (attempt in PERMITTED[process]), inside[attempt]
    # What the refusal is worth: without the sandbox it would have been done.
    assert as_root[attempt] == "done" or as_root[attempt] in NOT_IN_KERNEL


def test_writes_where_it_should(process: str, inside: dict[str, str]) -> None:
    found = {place: inside[f"write to {place}"] for place in WRITES[process]}
    assert set(found.values()) == {"done"}, found


def status_of(pid: str) -> dict[str, str]:
    """The lines of /proc/PID/status."""
    lines = on_host(f"cat /proc/{pid}/status").splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def test_what_runs_is_in_it() -> None:
    master = on_host("cat /run/nginx.pid").strip()
    workers = on_host(f"pgrep --parent {master}").split()
    assert len(workers) == int(on_host("nproc"))
    user = on_host("id --user www-data").strip()
    for pid in (master, *workers):
        status = status_of(pid)
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert int(status["CapBnd"], 16) == RIGHTS
        is_master = pid == master
        assert int(status["CapEff"], 16) == (RIGHTS if is_master else 0)
        assert set(status["Uid"].split()) == {"0" if is_master else user}
        seen = on_host(f"nsenter --target {pid} --mount touch /etc/nginx/sandbox 2>&1 || true")
        assert "Read-only file system" in seen


def test_first_start_was_in_it() -> None:
    """The package started nginx, and nothing has started it again for the sandbox's sake."""
    output = on_host("journalctl --unit nginx --output json --output-fields=INVOCATION_ID")
    found = {json.loads(line).get("INVOCATION_ID") for line in output.splitlines()}
    now = on_host("systemctl show --property=InvocationID --value nginx").strip()
    assert found - {None} == {now}


def test_secrets_are_for_root_alone() -> None:
    assert on_host("stat --format '%a %U' /etc/nginx/gpufleet_keys.conf").split() == ["600", "root"]
    leaks = "grep --recursive --files-with-matches upstream-key-of-the-test /etc /var/log || true"
    assert on_host(leaks).split() == ["/etc/nginx/gpufleet_keys.conf"]
