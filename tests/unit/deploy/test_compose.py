"""The compose file: complete, consistent with the code, and closed to the outside."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.settings import Settings

BACKING = {"rabbitmq", "postgres"}
MIGRATE = "migrate"
POLICY = "/etc/forebay/policy.toml"


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / "infra/compose.yaml").read_text()


@pytest.fixture(scope="module")
def containers(text: str) -> dict[str, dict[str, Any]]:
    """All services of the file, by name."""
    return dict(yaml.safe_load(text)["services"])


@pytest.fixture(scope="module")
def own(containers: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that run this project's code."""
    return {name: container for name, container in containers.items() if name not in BACKING}


def test_it_runs_every_service_and_the_migration(own: dict[str, dict[str, Any]], services: frozenset[str]) -> None:
    assert set(own) == services | {MIGRATE}


def test_each_builds_the_image_it_runs(own: dict[str, dict[str, Any]], root: Path) -> None:
    for name, container in own.items():
        service = container["build"]["args"]["SERVICE"]
        assert service == ("persistence" if name == MIGRATE else name)
        assert container["image"] == f"forebay/{service}:dev"
        assert (root / "infra" / container["build"]["context"] / container["build"]["dockerfile"]).is_file()


def test_its_settings_exist(text: str, variables: frozenset[str]) -> None:
    named = set(re.findall(r"FOREBAY_[A-Z0-9_]+", text))
    assert named
    assert named <= variables


def test_a_service_waits_for_what_it_needs(own: dict[str, dict[str, Any]], root: Path) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, container in own.items():
        if name == MIGRATE:
            assert container["depends_on"] == {"postgres": {"condition": "service_healthy"}}
            continue
        stores = any(re.match(r"forebay\[.*\bdatabase\b", requirement) for requirement in extras[name])
        expected = {"rabbitmq": {"condition": "service_healthy"}}
        if stores:
            expected[MIGRATE] = {"condition": "service_completed_successfully"}
        assert container["depends_on"] == expected, name
        assert ("FOREBAY_POSTGRES_DSN" in container["environment"]) == stores, name


def test_what_others_wait_for_can_become_healthy(containers: dict[str, dict[str, Any]]) -> None:
    awaited = {
        name
        for container in containers.values()
        for name, how in container.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }
    assert awaited == BACKING
    assert all("test" in containers[name]["healthcheck"] for name in awaited)


def test_each_has_time_to_finish_its_work(own: dict[str, dict[str, Any]]) -> None:
    for name, container in own.items():
        assert int(container["stop_grace_period"].removesuffix("s")) > Settings.model_fields["shutdown_s"].default, name


def test_the_policy_is_mounted_where_it_is_looked_for(own: dict[str, dict[str, Any]]) -> None:
    for name, container in own.items():
        assert container["environment"]["FOREBAY_POLICY_FILE"] == POLICY, name
        (mount,) = container["volumes"]
        assert (mount["source"], mount["target"]) == ("${FOREBAY_POLICY_FILE:-./policy.toml}", POLICY), name
        assert mount["read_only"] is True, name


def test_the_cache_finds_embeddings_at_inference(containers: dict[str, dict[str, Any]]) -> None:
    told = {name: c["environment"].get("FOREBAY_EMBEDDINGS_URL") for name, c in containers.items()}
    port = Settings.model_fields["http_port"].default
    assert {name: url for name, url in told.items() if url} == {"cache": f"http://inference:{port}"}
    assert "ports" not in containers["inference"], "it serves whoever reaches it"


def test_nothing_is_published_beyond_loopback(containers: dict[str, dict[str, Any]]) -> None:
    ports = [port for container in containers.values() for port in container.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_id_secret_has_no_default(containers: dict[str, dict[str, Any]]) -> None:
    assert containers["ingest"]["environment"]["FOREBAY_ID_SECRET"].startswith("${FOREBAY_ID_SECRET:?")


def test_each_runs_with_no_more_rights_than_in_kubernetes(own: dict[str, dict[str, Any]]) -> None:
    for name, container in own.items():
        assert container["read_only"] is True, name
        assert container["cap_drop"] == ["ALL"], name
        assert container["security_opt"] == ["no-new-privileges:true"], name
