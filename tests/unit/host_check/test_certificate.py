"""Certificates that the real openssl made, right and wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.gpufleet.llm.plugins.module_utils._host_certificate import (
    check_certificate,
)
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand

from tests.unit.host_check.conftest import MakeCertificate, run

Pair = tuple[Path, Path]


def in_days(days: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * 86400))


def swap(make: MakeCertificate, _folder: Path) -> Pair:
    return make()[0], make(stem="other")[1]


def encrypt(make: MakeCertificate, folder: Path) -> Pair:
    certificate, key = make()
    locked = folder / "locked.pem"
    run("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)
    return certificate, locked


def tear(make: MakeCertificate, _folder: Path) -> Pair:
    certificate, key = make()
    certificate.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    return certificate, key


def away(make: MakeCertificate, folder: Path) -> Pair:
    return make()[0], folder / "absent.pem"


Make = Callable[[MakeCertificate, Path], Pair]
# How the files are made, the site's name, and variable and words of the one finding.
REFUSED: dict[str, tuple[Make, str, str, str]] = {
    "no file": (away, "_", "nginx_tls_certificate_key", "No such file"),
    "not a pair": (swap, "_", "nginx_tls_certificate_key", "is not the key of"),
    "with passphrase": (encrypt, "_", "nginx_tls_certificate_key", "protected by a passphrase"),
    "not PEM": (tear, "_", "nginx_tls_certificate", "cannot be loaded"),
    "expired": (
        lambda make, _: make(end="20210101000000Z"),
        "llm.example.com",
        "nginx_tls_certificate",
        "expired on Jan  1 00:00:00 2021 GMT",
    ),
    "not yet": (
        lambda make, _: make(start=in_days(1)),
        "_",
        "nginx_tls_certificate",
        "is valid only from",
    ),
    "other name": (
        lambda make, _: make(),
        "chat.example.com",
        "nginx_server_name",
        "is not for the name chat.example.com",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(
    make_certificate: MakeCertificate, tmp_path: Path, case: str, run_command: RunCommand
) -> None:
    make, name, variable, words = REFUSED[case]
    certificate, key = make(make_certificate, tmp_path)
    (finding,) = check_certificate(run_command, str(certificate), str(key), name).findings
    assert finding.variable == variable
    assert words in finding.problem
    assert finding.remedy


@pytest.mark.parametrize("name", ["llm.example.com", "_", "*.example.com", "~^llm"])
def test_taken(make_certificate: MakeCertificate, name: str, run_command: RunCommand) -> None:
    certificate, key = make_certificate()
    seen = check_certificate(run_command, str(certificate), str(key), name)
    assert seen.findings == []
    assert seen.text == "valid until Dec 31 23:59:59 2049 GMT"


def test_a_wildcard_is_for_every_name_below(
    make_certificate: MakeCertificate, run_command: RunCommand
) -> None:
    certificate, key = make_certificate(name="*.example.com")
    assert (
        check_certificate(run_command, str(certificate), str(key), "llm.example.com").findings == []
    )
    (finding,) = check_certificate(
        run_command, str(certificate), str(key), "a.b.example.com"
    ).findings
    assert finding.variable == "nginx_server_name"


def test_an_end_that_is_near_is_told(
    make_certificate: MakeCertificate, run_command: RunCommand
) -> None:
    certificate, key = make_certificate(end=in_days(3.1))
    seen = check_certificate(run_command, str(certificate), str(key), "_")
    assert seen.findings == []
    assert "in 3 days: renew it" in seen.text


def test_without_openssl(
    make_certificate: MakeCertificate, monkeypatch: pytest.MonkeyPatch, run_command: RunCommand
) -> None:
    certificate, key = make_certificate()
    monkeypatch.setenv("PATH", "/nowhere")
    (finding,) = check_certificate(run_command, str(certificate), str(key), "_").findings
    assert finding.remedy == "apt-get install openssl"
