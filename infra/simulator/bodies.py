"""Reading the bodies of requests."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.faults import told

ModelT = TypeVar("ModelT", bound=BaseModel)


class BadBody(Exception):
    """A body that can't be taken; the message says what is wrong, and where."""


def decoded(body: bytes) -> Any:
    """A JSON body; raises BadBody."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBody(f"the body is no JSON: {error}") from None


def parsed(body: bytes, model: type[ModelT]) -> ModelT:
    """A JSON body as a model; raises BadBody naming the keys that are wrong."""
    try:
        return model.model_validate(decoded(body))
    except ValidationError as error:
        raise BadBody(told(error)) from None
