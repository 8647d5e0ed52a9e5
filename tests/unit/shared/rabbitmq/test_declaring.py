"""What can be told of the real broker's client without a broker."""

import pytest

from shared.errors import BrokerUnavailable
from shared.rabbitmq import RabbitBroker
from shared.rabbitmq.declaring import arguments
from shared.topology import ACCEPTED, COUNTED, RECORDS, TERMINAL_EVENTS
from tests.support import make


def test_a_work_queue_survives_and_gives_up_in_the_end() -> None:
    declared = arguments(RECORDS, 20)
    assert declared is not None
    assert declared["x-queue-type"] == "quorum"
    assert declared["x-delivery-limit"] == 20
    assert declared["x-dead-letter-exchange"] == "forebay.dead"
    assert declared["x-dead-letter-routing-key"] == RECORDS.name


def test_dead_letters_are_kept_and_go_nowhere_else() -> None:
    declared = arguments(RECORDS.dead, 20)
    assert declared is not None
    assert declared["x-queue-type"] == "quorum"
    assert int(str(declared["x-delivery-limit"])) > 100_000
    assert "x-dead-letter-exchange" not in declared


def test_what_is_parked_goes_back_by_itself_and_is_not_dropped_on_the_way() -> None:
    (parking,) = ACCEPTED.parking
    assert arguments(parking, 20) == {
        "x-queue-type": "quorum",
        "x-message-ttl": 2000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "cache.accepted",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert arguments(ACCEPTED, 20) == {**(arguments(RECORDS, 20) or {}), "x-dead-letter-routing-key": ACCEPTED.name}


def test_a_private_queue_is_a_plain_one_of_bounded_length() -> None:
    declared = arguments(TERMINAL_EVENTS, 20)
    assert declared is not None
    assert set(declared) == {"x-max-length"}


async def test_without_a_connection_publishing_fails_at_once_and_tells_no_password() -> None:
    broker = RabbitBroker("amqp://ann:secret@127.0.0.1:1/flow", name="test")
    assert not broker.connected
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1/flow") as raised:
        await broker.publish([make.message(make.accepted())])
    assert "secret" not in str(raised.value)


def test_a_fleeting_queue_lets_the_oldest_go_and_buries_nothing() -> None:
    assert arguments(COUNTED, 20) == {
        "x-queue-type": "quorum",
        "x-delivery-limit": 20,
        "x-max-length": 10_000,
        "x-message-ttl": 30_000,
        "x-overflow": "drop-head",
    }
