"""The live version of one adapter moved to and fro on the real engine, while it is asked."""

import asyncio

import pytest

from loraplex.demo_data import TENANTS
from tests.flips import Flipping
from tests.live_system import LiveSystem, push

pytestmark = pytest.mark.vllm

FLIPS = 20
ASKERS = 3


async def test_twenty_flips_on_the_real_engine_fail_nobody(live: LiveSystem) -> None:
    live.admin("POST", "/tenants", json={"name": "flips"})
    key = live.admin("POST", "/tenants/flips/keys", json={})["key"]
    markers = {push(live, "flips", "both", tenant.folder): tenant.marker for tenant in TENANTS}
    assert list(markers) == [1, 2]
    # Five tokens are enough to tell the markers apart.
    flipping = Flipping(live.gateway_url, key, live.admin_key, "flips/both", live=2, max_tokens=5)
    done = asyncio.Event()

    async def ask_on(stream: bool) -> None:
        while not done.is_set():
            await flipping.ask(stream=stream)

    async with flipping.http, asyncio.TaskGroup() as group:
        for number in range(ASKERS):
            group.create_task(ask_on(stream=number % 2 == 0))
        try:
            for number in range(FLIPS):
                version = number % 2 + 1
                await flipping.flip(version, back=number % 4 == 2)
                assert (await flipping.ask(stream=number % 3 == 0)).version == version
        finally:
            done.set()
    flipping.check()
    for answer in flipping.answers:
        assert answer.text.startswith(markers[answer.version][:6]), answer
    assert {answer.version for answer in flipping.answers if answer.streamed} == {1, 2}
