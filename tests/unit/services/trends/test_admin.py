"""What operators are shown of topics."""

import httpx
from starlette.applications import Starlette

from services.trends.admin import Admin
from tests.unit.services.trends.test_watch import World


async def test_it_shows_what_trends_what_is_near_to_it_and_the_rule() -> None:
    world = World()
    await world.spend(60, other=20, tea=1)
    await world.spend(2, other=20, tea=1, coffee=20)
    await world.spend(0.25, other=20, tea=12)
    app = Starlette(routes=list(Admin(world.policy, world.watches[0]).routes()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        shown = (await http.get("/v1/topics")).json()
    (trending,) = shown["trending"]
    assert (trending["terms"], trending["tenant"]) == (["coffee"], "acme")
    assert trending["per_minute"] > 60
    assert 0 < trending["usual_per_minute"] < 1
    assert trending["ratio"] > 4
    assert trending["since"].startswith("2026-01-02T04:0")
    assert "times as much" in trending["reason"]
    assert [each["terms"] for each in shown["rising"]] == [["tea"]]
    assert shown["rising"][0]["since"] is None
    assert shown["rule"] == {
        "fast": 180,
        "slow": 10_800,
        "ratio": 4.0,
        "floor": 36.0,
        "settle": 1.5,
        "prior": 0.001,
    }
