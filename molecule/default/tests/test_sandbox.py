"""The sandboxes of vLLM and of the chat act: every attempt of sandbox_probe.py is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host import Host
from sandbox import NOT_IN_KERNEL, ROOT_ONLY, Sandbox
from sandbox_probe import ATTEMPTS

# Unit, its user, where it may write, and what it may do beyond: CUDA compiles, and NCCL looks for
# network interfaces through netlink.
UNITS: dict[str, tuple[str, list[str], set[str]]] = {
    "vllm@smollm2.service": (
        "vllm",
        ["/var/cache/gpufleet/probe", "/run/gpufleet/probe", "/tmp"],
        {"open a netlink socket", "make memory writable and executable"},
    ),
    "chainlit.service": (
        "chainlit",
        ["/var/lib/gpufleet/chainlit", "/run/gpufleet/chainlit", "/tmp"],
        set(),
    ),
}


@pytest.fixture(scope="module", params=UNITS)
def unit(request: pytest.FixtureRequest) -> str:
    """Return the name of a unit."""
    return str(request.param)


@pytest.fixture(scope="module")
def sandbox(host: Host, unit: str) -> Iterator[Sandbox]:
    """Return the unit's sandbox, laid out for the probe."""
    prepared = Sandbox(host.run, unit, UNITS[unit][0])
    yield prepared
    prepared.clear()


@pytest.fixture(scope="module")
def inside(sandbox: Sandbox, unit: str) -> dict[str, str]:
    """Return what the probe reports in the unit's place."""
    return sandbox.inside(*UNITS[unit][1])


@pytest.fixture(scope="module")
def as_root(sandbox: Sandbox) -> dict[str, str]:
    """Return what it reports as root in no sandbox."""
    return sandbox.outside("root")


@pytest.fixture(scope="module")
def as_user(sandbox: Sandbox, unit: str) -> dict[str, str]:
    """Return what it reports as the unit's user in no sandbox."""
    return sandbox.outside(UNITS[unit][0])


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_is_refused(
    unit: str,
    inside: dict[str, str],
    as_root: dict[str, str],
    as_user: dict[str, str],
    attempt: str,
) -> None:
    assert (inside[attempt] == "done") == (attempt in UNITS[unit][2]), inside[attempt]
    # What the refusal is worth: without the sandbox it would have been done.
    assert as_root[attempt] == "done" or as_root[attempt] in NOT_IN_KERNEL
    if attempt not in ROOT_ONLY:
        assert as_user[attempt] == as_root[attempt]


def test_writes_where_it_should(unit: str, inside: dict[str, str]) -> None:
    found = {place: inside[f"write to {place}"] for place in UNITS[unit][1]}
    assert set(found.values()) == {"done"}, found


def test_what_runs_is_in_it(host: Host, unit: str) -> None:
    """Every process of the real unit: its user, no rights, no new ones, filtered system calls."""
    uid = host.run(f"id --user {UNITS[unit][0]}")
    processes = host.processes(unit)
    assert processes
    for pid in processes:
        status = dict(
            line.split(":", 1) for line in host.run(f"cat /proc/{pid}/status").splitlines()
        )
        assert set(status["Uid"].split()) == {uid}, processes[pid]
        rights = {
            status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
        }
        assert rights == {"0" * 16}, processes[pid]
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")


def test_what_runs_sees_a_system_that_is_read_only(host: Host, unit: str) -> None:
    """Even root, once in the unit's view of the file system, cannot write there."""
    pid = host.show(unit, "MainPID")["MainPID"]
    enter = f"nsenter --target {pid} --mount"
    for place in ("/etc", "/usr", "/opt/gpufleet", "/var/lib/gpufleet/models", "/var/log"):
        said = host.run(f"{enter} touch {place}/sandbox 2>&1", check=False)
        assert "Read-only file system" in said, f"{place}: {said}"
    assert host.run(f"{enter} ls --almost-all /home /root 2>/dev/null", check=False) == (
        "/home:\n\n/root:"
    )


@pytest.mark.parametrize(
    ("place", "mode", "owner"),
    [
        ("/var/cache/gpufleet/smollm2", "700", "vllm"),
        ("/run/gpufleet/smollm2", "700", "vllm"),
        ("/var/lib/gpufleet/chainlit", "700", "chainlit"),
        ("/run/gpufleet/chainlit", "700", "chainlit"),
    ],
)
def test_directories_of_a_service_are_its_own(
    host: Host, place: str, mode: str, owner: str
) -> None:
    assert host.run(f"stat --format '%a %U' {place}") == f"{mode} {owner}"


def test_what_services_run_belongs_to_root(host: Host) -> None:
    """Programs, settings and models are written by root alone, credentials read by root alone."""
    places = "/opt/gpufleet /var/lib/gpufleet/models /etc/gpufleet"
    assert host.run(f"find {places} ! -user root -o ! -type l -perm /022 | head") == ""
    credentials = "find /etc/gpufleet/credentials -perm /077 2>/dev/null"
    assert host.run(f"{credentials} | head") == ""
