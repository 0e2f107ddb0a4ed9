"""What the chat takes from the gateway's word about the instances."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_upstream import Answer, FakeUpstream
from gpufleet_chat.choices import Choices
from gpufleet_chat.settings import Secrets, Settings
from gpufleet_chat.upstream import Health, Request, Unavailable, Upstream

CHOICES = Choices("", None, 1)


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


async def test_models_are_offered_while_the_back_end_is_away(
    fake: FakeUpstream, tmp_path: Path
) -> None:
    fake.models = ("small", "large")
    upstream = Upstream(Settings(upstream_url=fake.url, state_directory=str(tmp_path)), Secrets())
    assert [model.name for model in await upstream.offered()] == ["small", "large"]
    await fake.stop()
    with pytest.raises(Unavailable):
        # A fault asks anew.
        async for _ in upstream.stream(Request("small", [], CHOICES, 1)):
            pass
    assert [model.name for model in await upstream.offered()] == ["small", "large"]
    with pytest.raises(Unavailable):
        await upstream.model()
    await upstream.close()


async def test_only_the_operators_model_is_offered(fake: FakeUpstream, tmp_path: Path) -> None:
    fake.models = ("small", "large")
    settings = Settings(upstream_url=fake.url, state_directory=str(tmp_path), model="large")
    upstream = Upstream(settings, Secrets())
    assert [model.name for model in await upstream.offered()] == ["large"]
    await upstream.close()


async def test_a_model_that_thinks_is_known_by_its_thinking(
    fake: FakeUpstream, tmp_path: Path
) -> None:
    fake.script.append(Answer(("Hm",), field_name="reasoning"))
    upstream = Upstream(Settings(upstream_url=fake.url, state_directory=str(tmp_path)), Secrets())
    model = await upstream.model()
    assert not upstream.thinks(None)
    async for _ in upstream.stream(Request(model.name, [], CHOICES, 1)):
        pass
    assert upstream.thinks(None)
    await upstream.close()
