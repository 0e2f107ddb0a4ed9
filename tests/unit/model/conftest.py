"""Run the real module in this process, and build small models for it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.llm.plugins.modules import model_revision

Result = dict[str, Any]
RunModule = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root of models that does not exist yet, as on a bare host."""
    return tmp_path / "var" / "models"


@pytest.fixture
def run(root: Path, capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs the module with options; check=True is check mode."""

    def run_module(*, check: bool = False, **options: object) -> Result:
        args = {
            "root": str(root),
            "name": "example/tiny",
            "revision": "v1",
            "_ansible_check_mode": check,
            **options,
        }
        with patch_module_args(args), pytest.raises(SystemExit):
            model_revision.main()
        result: Result = json.loads(capsys.readouterr().out)
        return result

    return run_module


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a directory with a tiny whole model."""
    folder = tmp_path / "source"
    write_model(folder)
    return folder


def write_model(folder: Path) -> None:
    """Write a config, one safetensors file of one tensor, and a file in a folder below."""
    (folder / "extra").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    (folder / "extra" / "notes.txt").write_text("a file in a folder\n")
    (folder / "model.safetensors").write_bytes(safetensors(b"\x07" * 300_000))


def safetensors(data: bytes) -> bytes:
    """Return a safetensors file with one tensor of bytes."""
    tensor = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + data


@pytest.fixture
def write_safetensors() -> Callable[[bytes], bytes]:
    """Return the writer of safetensors files."""
    return safetensors


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(cert.read_text() + key.read_text())
    return both
