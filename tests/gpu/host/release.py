"""Lays out a host as the roles would: release, model and the directories of the unit."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RELEASES = Path("/opt/gpufleet/vllm")
MODEL = Path("/var/lib/gpufleet/models/Qwen/Qwen3-0.6B-FP8/configuration")
STATE = Path("/var/lib/gpufleet/vllm")
CACHES = Path("/var/cache/gpufleet")
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ENTRIES = 151_646

# The bundle in place of the release's own environment; PYTHONPATH comes with the instance.
_VLLM = """#!/usr/bin/env python3
import sys

from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
"""


def lay_out(rendered: Path) -> Path:
    """Make everything anew from the files of render.py; return the release."""
    release = RELEASES / "releases" / "gpu"
    shutil.rmtree(release, ignore_errors=True)
    shutil.copytree(ROOT / "files/guard", release / "guard")
    for name in ("_probe.py", "_gpu_bus.py"):
        shutil.copy(ROOT / "plugins/module_utils" / name, release / "guard")
    shutil.copytree(rendered / "instances", release / "instances")
    vllm = release / "venv/bin/vllm"
    vllm.parent.mkdir(parents=True)
    vllm.write_text(_VLLM)
    vllm.chmod(0o755)
    current = RELEASES / "current"
    current.unlink(missing_ok=True)
    current.symlink_to(release)
    STATE.mkdir(parents=True, exist_ok=True)
    CACHES.mkdir(parents=True, exist_ok=True)
    _write_model()
    return release


def _write_model() -> None:
    """Write configuration and tokenizer; weights are drawn at random when vLLM loads it."""
    MODEL.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tests/gpu/model_config.json", MODEL / "config.json")
    (MODEL / "tokenizer.json").write_text(json.dumps(tokenizer()))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 131072,
    }
    (MODEL / "tokenizer_config.json").write_text(json.dumps(settings))


def tokenizer() -> dict[str, object]:
    """A tokenizer as large as the real one that spells texts byte by byte."""
    # The letters by which byte-level tokenizers write bytes: themselves where they can be seen.
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = [byte for byte in range(256) if byte not in seen]
    letters = [chr(byte) for byte in sorted(seen)]
    letters += [chr(256 + number) for number, _byte in enumerate(hidden)]
    words = [f"Ġw{number}" for number in range(ENTRIES - len(letters) - len(SPECIAL_TOKENS))]
    vocabulary = {text: number for number, text in enumerate([*letters, *words])}
    special = [
        {
            "id": len(vocabulary) + number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number, text in enumerate(SPECIAL_TOKENS)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def apply_limits() -> None:
    """What LimitNOFILE= and UMask= of the unit do, for this process and those that it starts."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    os.umask(0o077)
