"""What every way of deploying is held against: the services there are and the settings they know."""

from pathlib import Path

import pytest

from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def services(root: Path) -> frozenset[str]:
    """Every service, by the name of its folder."""
    found = frozenset(
        folder.name
        for folder in (root / "services").iterdir()
        if folder.is_dir() and folder.name.isidentifier() and not folder.name.startswith("_")
    )
    assert found, "no services, so nothing would be checked"
    return found


@pytest.fixture(scope="session")
def variables() -> frozenset[str]:
    """Every environment variable that is a setting."""
    return frozenset(PREFIX + field.upper() for field in Settings.model_fields)
