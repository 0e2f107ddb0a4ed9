"""The journal within its bounds, and log files whose rotation loses no line."""

from __future__ import annotations

import re
import secrets
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from .conftest import Backends, on_host

LOGS = "/var/log/gpufleet"
ACCESS = f"{LOGS}/gateway_access.log"
ROTATE = "logrotate --force /etc/logrotate.d/gpufleet"
STATE = "/var/lib/logrotate/status"


def written_by(unit: str, count: int) -> list[str]:
    """The lines that the program of a unit has written to the journal, once they are so many."""
    command = f"journalctl --unit {unit} --output cat _TRANSPORT=stdout"
    deadline = time.monotonic() + 20
    while len(lines := on_host(command).splitlines()) < count and time.monotonic() < deadline:
        # Of systemd 252 it does not wait for what lies in the sockets of programs.
        on_host("journalctl --sync")
    return lines


def writer(count: int, pause: float = 0) -> str:
    """A command that prints that many numbered lines, with a pause in seconds after each."""
    # Each line in one piece: the journal forgets the beginning of one that it has not whole.
    line = "print('line %d' % n, flush=True)"
    program = f"import time\nfor n in range({count}): {line}; time.sleep({pause})"
    return f'python3 -c "{program}"'


def rotated() -> list[str]:
    """Names of the rotated access logs, the newest first."""
    return on_host(f"cd {LOGS} && ls -v gateway_access.log.* 2>/dev/null || true").split()


def test_settings_of_the_journal() -> None:
    """What counts after all files of the host: the last word on each setting."""
    lines = on_host("systemd-analyze cat-config systemd/journald.conf").splitlines()
    settings = dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))
    assert settings["Storage"] == "persistent"
    assert settings["SystemMaxUse"] == "4096M"
    assert settings["MaxRetentionSec"] == "30day"
    assert settings["MaxFileSec"] == "1day"
    assert settings["RateLimitIntervalSec"] == "30s"
    assert settings["RateLimitBurst"] == "50000"


def test_journal_took_the_settings() -> None:
    said = on_host("journalctl --unit systemd-journald --output cat")
    assert "nknown key" not in said
    assert "Failed to parse" not in said
    sizes = re.findall(r"System Journal \(/var/log/journal/\w+\) is .*, max ([\d.]+G)", said)
    assert float(sizes[-1].rstrip("G")) == 4
    assert "File path: /var/log/journal/" in on_host("journalctl --header")
    usage = re.search(r"take up ([\d.]+)([MG])", on_host("journalctl --disk-usage"))
    assert usage is not None
    assert float(usage[1]) * (1024 if usage[2] == "G" else 1) <= 4096


def test_new_settings_of_the_journal_lose_no_line() -> None:
    """What the role's handlers do, while a service writes."""
    count, unit = 6000, f"writer-{secrets.token_hex(4)}"
    on_host(f"systemd-run --quiet --unit={unit} {writer(count, pause=0.001)}")
    for _ in range(3):
        time.sleep(1.5)
        on_host("systemctl restart systemd-journald")
        on_host("journalctl --relinquish-var && journalctl --flush")
    on_host(f"while systemctl --quiet is-active {unit}; do sleep 0.2; done")
    assert written_by(unit, count) == [f"line {number}" for number in range(count)]


def test_burst_is_kept() -> None:
    """More lines at once than the distribution's own limit lets through."""
    count, unit = 60_000, f"writer-{secrets.token_hex(4)}"
    on_host(f"systemd-run --quiet --unit={unit} --wait {writer(count)}")
    assert len(written_by(unit, count)) == count


def test_rotation_loses_no_line(backends: Backends, web: httpx.Client, api: httpx.Client) -> None:
    """Requests, a stream and a reload go on while the files are rotated six times."""
    on_host(f"{ROTATE}; rm -f {ACCESS}.*; truncate --size 0 {ACCESS}")
    done = threading.Event()
    # A reload closes idle connections: none is used twice.
    web.headers["Connection"] = api.headers["Connection"] = "close"

    def ask_on() -> list[str]:
        """Ids of requests made one after another until `done`."""
        found = []
        while not done.is_set():
            response = web.get("/user")
            assert response.status_code == 200
            found.append(response.headers["x-request-id"])
        return found

    def stream_on() -> list[str]:
        """Ids of streams, each of which spans a rotation or a reload."""
        found = []
        while not done.is_set():
            response = api.post("/v1/chat/completions", json={"model": "m", "stream": True})
            assert response.text.endswith("data: [DONE]\n\n")
            found.append(response.headers["x-request-id"])
        return found

    with ThreadPoolExecutor(5) as pool:
        askers = [pool.submit(ask_on) for _ in range(4)] + [pool.submit(stream_on)]
        for number in range(6):
            time.sleep(1)
            on_host(ROTATE)
            if number == 3:
                on_host("systemctl reload nginx")
        time.sleep(1)
        done.set()
        sent = [request for asker in askers for request in asker.result()]

    lines = on_host(f"zcat --force {ACCESS}*").splitlines()
    ids = re.findall(r'"request_id":"(\w+)"', "\n".join(lines))
    print(f"{len(sent)} requests, {len(lines)} lines in {len(rotated()) + 1} files")
    assert len(rotated()) == 6
    assert len(lines) == len(sent) == len(ids)
    assert Counter(ids) == Counter(sent)


def test_seven_are_kept_compressed_and_private(backends: Backends, web: httpx.Client) -> None:
    for _ in range(9):
        assert web.get("/user").status_code == 200
        on_host(ROTATE)
        time.sleep(0.2)
    assert rotated() == [
        "gateway_access.log.1",
        *[f"gateway_access.log.{number}.gz" for number in range(2, 8)],
    ]
    found = set(on_host(f"stat --format '%a %U %G' {LOGS}/*").splitlines())
    assert found == {"640 www-data adm"}
    assert on_host(f"stat --format '%a %U %G' {LOGS}").split() == ["751", "root", "adm"]


def test_the_timer_rotates_once_a_day(backends: Backends, web: httpx.Client) -> None:
    """By the distribution's own service, sandbox included, and not twice."""
    assert on_host("systemctl is-enabled logrotate.timer").strip() == "enabled"
    assert on_host("systemctl is-active logrotate.timer").strip() == "active"
    response = web.get("/user")
    on_host(f"sed -i '\\#{ACCESS}#s# [^ ]*$# 2020-1-1-0:0:0#' {STATE}")
    for _ in range(2):
        on_host("systemctl start logrotate.service")
    newest = on_host(f"cat {ACCESS}.1").splitlines()
    assert len(newest) == 1
    assert response.headers["x-request-id"] in newest[0]
    after = web.get("/user").headers["x-request-id"]
    assert after in on_host(f"cat {ACCESS}")


def test_rotates_without_nginx(backends: Backends, web: httpx.Client) -> None:
    web.get("/user")
    on_host("systemctl stop nginx")
    try:
        on_host(ROTATE)
    finally:
        on_host("systemctl start nginx")
    after = web.get("/user").headers["x-request-id"]
    assert on_host(f"grep --count {after} {ACCESS}").strip() == "1"


def test_each_log_has_one_rule() -> None:
    """The distribution's rule for nginx does not see ours: two would rotate it twice."""
    said = on_host("logrotate --debug /etc/logrotate.d/nginx 2>&1")
    assert "/var/log/nginx/access.log" in said
    assert "gpufleet" not in said
    with pytest.raises(subprocess.CalledProcessError):
        on_host("grep --recursive --quiet gateway_ /var/log/nginx")
