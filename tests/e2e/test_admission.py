"""What clients are told while there is no room, and that it goes on by itself."""

from pathlib import Path

from tests.e2e.conftest import SHORT, Api, eventually
from tests.support.alarm import short_of_memory


async def test_while_the_broker_is_short_of_memory_clients_are_sent_away_and_nothing_accepted_is_lost(
    api: Api, home: Path
) -> None:
    taken = [(await api.post({"input": "What is two plus two?", "max_output_tokens": SHORT})).json()["id"]]
    async with short_of_memory(home):
        # The first after the alarm may still be taken; the broker says with it that it takes no more.
        while (response := await api.post({"input": f"Count to {len(taken)}.", "max_output_tokens": 4})).is_success:
            taken.append(response.json()["id"])
        assert response.status_code == 503
        assert response.json()["code"] == "broker_unavailable"
        assert int(response.headers["retry-after"]) > 0
        ready = await api.http.get("/readyz")
        assert ready.status_code == 503
        assert "memory" in ready.json()["broker"]

    async def open_again() -> bool:
        return (await api.http.get("/readyz")).status_code == 200

    await eventually(open_again)
    last = await api.post({"input": "Name a colour.", "max_output_tokens": 4})
    assert last.status_code == 202
    assert last.json()["estimated_wait_ms"] > 0
    for request_id in (*taken, last.json()["id"]):
        assert (await api.finished(request_id))["status"] == "completed"
