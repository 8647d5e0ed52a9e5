"""One private stack for the whole session; it grows as tests ask for more of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import stack as local
from infra.local.stack import Stack
from shared import database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick ones first: unit, contract, end to end, chaos."""
    order = {"unit": 0, "contract": 1, "e2e": 2, "chaos": 3}
    root = Path(__file__).parent
    items.sort(key=lambda item: order.get(item.path.relative_to(root).parts[0], 0))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the session's stack, which is stopped at the end."""
    folder = tmp_path_factory.mktemp("stack")
    yield folder
    local.down(folder, print)


@pytest.fixture(scope="session")
def infrastructure(home: Path) -> Stack:
    """A RabbitMQ and a PostgreSQL with the schema in it."""
    return local.up(home, say=print, services=(), infrastructure=("rabbitmq", "postgres"), migrate=database.migrate)


@pytest.fixture(scope="session")
def stack(infrastructure: Stack, home: Path) -> Stack:
    """Everything: all services and the model too."""
    return local.up(home, say=print, migrate=database.migrate)
