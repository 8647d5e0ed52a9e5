"""The Dockerfile, as far as it can be checked without an engine: what it takes exists, for every service."""

import re
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def dockerfile(root: Path) -> str:
    """The Dockerfile with its continued lines joined."""
    return (root / "infra/Dockerfile").read_text().replace("\\\n", " ")


def copied(dockerfile: str) -> list[str]:
    """What is copied from the project, before ``${SERVICE}`` is put in."""
    lines = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY ")]
    return [source for sources in lines if not sources[0].startswith("--from=") for source in sources]


def test_all_it_copies_exists_for_every_service(root: Path, services: frozenset[str], dockerfile: str) -> None:
    paths = {source.replace("${SERVICE}", service) for source in copied(dockerfile) for service in services}
    assert len(paths) > len(services)
    assert [path for path in sorted(paths) if not (root / path).exists()] == []


def test_all_it_copies_reaches_the_build(root: Path, dockerfile: str) -> None:
    rules = (root / "infra/Dockerfile.dockerignore").read_text().splitlines()
    kept = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert "**" in rules
    assert [path for path in copied(dockerfile) if not any(Path(path).is_relative_to(keep) for keep in kept)] == []
    assert [path for path in kept if not (root / path).exists()] == []


def test_a_services_requirements_are_all_pinned_by_hash(root: Path, services: frozenset[str]) -> None:
    for service in services:
        text = (root / f"infra/requirements/{service}.txt").read_text().replace("\\\n", " ")
        loose = [line for line in text.splitlines() if "==" in line and "--hash=sha256:" not in line]
        assert loose == [], service


def test_what_an_image_does_not_need_stays_out(root: Path, services: frozenset[str]) -> None:
    holders = {
        s
        for s in services
        if re.search(r"^litellm==", (root / f"infra/requirements/{s}.txt").read_text(), re.MULTILINE)
    }
    assert holders == {"inference"}


def test_its_settings_exist(dockerfile: str, variables: frozenset[str]) -> None:
    named = set(re.findall(r"FOREBAY_[A-Z0-9_]+", dockerfile))
    assert named
    assert named <= variables


def test_it_runs_python_as_process_one_and_not_as_root(dockerfile: str) -> None:
    instructions = dict(line.split(maxsplit=1) for line in dockerfile.splitlines() if line[:1].isupper())
    assert instructions["USER"] == "10001:10001"
    assert instructions["ENTRYPOINT"] == r'["/bin/sh", "-c", "exec python -m \"services.$SERVICE\""]'
