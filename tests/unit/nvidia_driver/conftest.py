"""A host with one healthy GPU, as for the facts of GPUs."""

from __future__ import annotations

from tests.unit.gpu.conftest import host

__all__ = ["host"]
