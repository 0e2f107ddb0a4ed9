"""Certificates made by the real openssl, and a server that does what a test tells it to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The test helpers of this and other folders are imported by their full name.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.module_utils._host_finding import RunCommand

from tests.unit.host_check.fake_server import FakeServer, serving

MakeCertificate = Callable[..., tuple[Path, Path]]


@pytest.fixture
def run_command() -> RunCommand:
    """Return what runs commands for modules."""
    with patch_module_args({}):
        module = AnsibleModule(argument_spec={})
    run: RunCommand = module.run_command
    return run


@pytest.fixture
def make_certificate(tmp_path: Path) -> MakeCertificate:
    """Return a function that makes a self-signed certificate and its key, as two files."""

    def make(
        name: str = "llm.example.com", start: str = "", end: str = "", stem: str = "site"
    ) -> tuple[Path, Path]:
        kind = "IP" if name[0].isdigit() else "DNS"
        certificate, key = tmp_path / f"{stem}.pem", tmp_path / f"{stem}-key.pem"
        request, extension = tmp_path / f"{stem}.csr", tmp_path / f"{stem}.ext"
        extension.write_text(f"subjectAltName={kind}:{name}\nbasicConstraints=CA:TRUE\n")
        run(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            f"/CN={name}",
            "-keyout",
            key,
            "-out",
            request,
        )
        # Only `ca` takes dates in the past.
        (tmp_path / "index.txt").write_text("")
        (tmp_path / "ca.cnf").write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={tmp_path}/index.txt\nnew_certs_dir={tmp_path}\n"
            "default_md=sha256\npolicy=any\nrand_serial=yes\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        dates = ["-startdate", start or "20200101000000Z", "-enddate", end or "20491231235959Z"]
        run(
            "ca",
            "-batch",
            "-config",
            tmp_path / "ca.cnf",
            "-selfsign",
            "-keyfile",
            key,
            "-in",
            request,
            "-extfile",
            extension,
            *dates,
            "-notext",
            "-out",
            certificate,
        )
        return certificate, key

    return make


def run(*arguments: object) -> None:
    """Run openssl; its words are shown when it fails."""
    done = subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Return a running server over plain HTTP."""
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no authorities of this machine."""
    for name in (
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
