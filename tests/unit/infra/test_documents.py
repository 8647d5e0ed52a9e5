"""Generated documents are committed, and true."""

import json

import pytest

from infra.documents import DOCS, asyncapi, documents
from shared.events import EVENTS


@pytest.mark.parametrize("name", documents())
def test_a_committed_document_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == documents()[name], "stale: run `make docs`"


def test_every_event_is_described_with_an_example() -> None:
    described = {message["name"]: message for message in asyncapi()["components"]["messages"].values()}
    assert set(described) == {*EVENTS, "forebay.request.submitted.v1"}
    assert all(message["examples"][0]["payload"] for message in described.values())


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi()

    def check(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(reference := node.get("$ref"), str):
                target: object = document
                for part in reference.removeprefix("#/").split("/"):
                    assert isinstance(target, dict)
                    target = target[part]
            for child in node.values():
                check(child)
        elif isinstance(node, list):
            for child in node:
                check(child)

    check(json.loads(json.dumps(document)))
