"""What the chat takes from the gateway's word about the instances."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_upstream import FakeUpstream
from gpufleet_chat.settings import Secrets, Settings
from gpufleet_chat.upstream import Health, Upstream


@pytest.mark.parametrize(
    ("healthy", "code", "health"),
    [
        (True, "", Health.READY),
        (False, "no_instance_is_ready", Health.NOT_READY),
        (False, "no_instance_runs", Health.NONE_RUNS),
        # Something else before the gateway may answer in its place.
        (False, "service_unavailable", Health.NOT_READY),
    ],
)
async def test_health(
    fake: FakeUpstream, tmp_path: Path, healthy: bool, code: str, health: Health
) -> None:
    fake.healthy, fake.health_code = healthy, code
    upstream = Upstream(Settings(upstream_url=fake.url, state_directory=str(tmp_path)), Secrets())
    assert await upstream.health() is health
    await fake.stop()
    assert await upstream.health() is Health.NOT_READY
    await upstream.close()
