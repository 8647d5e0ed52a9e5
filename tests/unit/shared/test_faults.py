"""What pydantic finds wrong, as people are told."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from shared.faults import faults, told


class Body(BaseModel):
    names: dict[Annotated[str, StringConstraints(max_length=3)], int] = Field(default_factory=dict)
    turns: list[int] = Field(default_factory=list)

    @model_validator(mode="after")
    def _few(self) -> "Body":
        if len(self.turns) > 1:
            raise ValueError("one turn at the most")
        return self


def error_of(**body: Any) -> ValidationError:
    with pytest.raises(ValidationError) as raised:
        Body.model_validate(body)
    return raised.value


@pytest.mark.parametrize(
    ("body", "where"),
    [({"turns": ["secret"]}, "turns.0"), ({"names": {"secret": 1}}, "names.secret"), ({"turns": [1, 2]}, "")],
    ids=["an item", "a key", "the whole"],
)
def test_it_is_told_where(body: dict[str, Any], where: str) -> None:
    (fault,) = faults(error_of(**body))
    assert fault.where == where


def test_what_a_validator_of_ours_says_is_told_as_it_says_it() -> None:
    assert told(error_of(turns=[1, 2])) == "one turn at the most"


def test_a_value_is_not_told() -> None:
    assert "secret" not in told(error_of(turns=["secret"]))


def test_all_is_told_or_the_first_of_it() -> None:
    error = error_of(turns=["a", "b"])
    assert [part.split(":")[0] for part in told(error).split("; ")] == ["turns.0", "turns.1"]
    assert told(error, most=1) == told(error).split("; ")[0]
