"""What nginx says about its configuration, in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand
from ansible_collections.gpufleet.llm.plugins.module_utils._host_nginx import check_nginx

WARNING = "nginx: [warn] conflicting server name in /etc/nginx/sites-enabled/a:1"
END = "nginx: configuration file /etc/nginx/nginx.conf test failed"


def fake_nginx(folder: Path, complaint: str, start: str = "nginx: [emerg]") -> str:
    """Write an nginx that complains so, or accepts everything."""
    program = folder / "nginx"
    words = f"{WARNING}\n{start} {complaint}\n{END}" if complaint else "syntax is ok"
    program.write_text(
        f"#!/bin/sh\ncat >&2 <<'WORDS'\n{words}\nWORDS\nexit {1 if complaint else 0}\n"
    )
    program.chmod(0o755)
    return str(program)


COMPLAINTS: dict[str, tuple[str, str | None]] = {
    "none": ("", None),
    "other people's include": (
        'unknown directive "sever" in /etc/nginx/conf.d/theirs.conf:3',
        "Correct /etc/nginx/conf.d/theirs.conf, line 3",
    ),
    "a module without library": (
        'dlopen() "/usr/lib/nginx/modules/x.so" failed in /etc/nginx/modules-enabled/50-x.conf:1',
        "/etc/nginx/modules-enabled/50-x.conf, line 1",
    ),
    "without a place": ('open() "/var/log/none/x.log" failed', "Correct what it names"),
    "the main file, which the role writes": (
        'unknown directive "x" in /etc/nginx/nginx.conf:9',
        None,
    ),
    "the distribution's site, which goes": (
        "duplicate listen options for [::]:80 in /etc/nginx/sites-enabled/default:23",
        None,
    ),
}


@pytest.mark.parametrize("case", COMPLAINTS)
def test_complaints(tmp_path: Path, case: str, run_command: RunCommand) -> None:
    complaint, remedy = COMPLAINTS[case]
    findings = check_nginx(run_command, fake_nginx(tmp_path, complaint)).findings
    assert len(findings) == (1 if remedy else 0)
    for finding in findings:
        assert f"on this host now: {complaint}." in finding.problem
        assert str(remedy) in finding.remedy


def test_complaints_may_begin_with_date_and_process(
    tmp_path: Path, run_command: RunCommand
) -> None:
    program = fake_nginx(tmp_path, "no luck in /a.conf:1", "2026/01/02 03:04:05 [emerg] 12#12:")
    (finding,) = check_nginx(run_command, program).findings
    assert finding.problem.endswith("on this host now: no luck in /a.conf:1.")


def test_no_nginx_yet(tmp_path: Path, run_command: RunCommand) -> None:
    assert check_nginx(run_command, str(tmp_path / "nginx")).text == "not installed yet"


def test_a_certificate_that_only_we_name_is_no_obstacle(
    tmp_path: Path, run_command: RunCommand
) -> None:
    complaint = 'cannot load certificate "/etc/ssl/old.pem": BIO_new_file() failed'
    program = fake_nginx(tmp_path, complaint)
    gateway = tmp_path / "etc" / "conf.d" / "gpufleet.conf"
    gateway.parent.mkdir(parents=True)
    gateway.write_text("ssl_certificate /etc/ssl/new.pem;\n")
    assert check_nginx(run_command, program, gateway).findings
    gateway.write_text("ssl_certificate /etc/ssl/old.pem;\n")
    assert check_nginx(run_command, program, gateway).findings == []
    gateway.with_name("theirs.conf").write_text("ssl_certificate /etc/ssl/old.pem;\n")
    assert check_nginx(run_command, program, gateway).findings
