"""What operators may ask about failures, as it comes over HTTP: read, and refused where it makes no sense."""

from typing import Annotated, Final, Self, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from starlette.datastructures import QueryParams

from services.persistence.failures import Place, Which
from services.persistence.replaying import Terms
from shared.errors import InvalidRequest
from shared.events import Word
from shared.faults import faults

MOST_AT_ONCE: Final = 500
CONDITIONS: Final = ("class", "tenant", "since", "until")
M = TypeVar("M", bound="Listing")

Class = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Listing(BaseModel):
    """Which failures are meant, and how many of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[Class, ...] = Field((), alias="class")
    tenant: Word | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    after: str | None = None
    limit: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 100

    @property
    def which(self) -> Which:
        """The conditions."""
        return Which(self.classes, self.tenant, self.since, self.until)

    @property
    def place(self) -> Place | None:
        """Where to begin; raises InvalidRequest."""
        return None if self.after is None else Place.parse(self.after)


class Selection(Listing):
    """Failures that something is to be done about: named, or all that meet some conditions.

    Attributes:
        more: whether whoever asks goes on after these, so that dead letters are sought once, after the last of them.
    """

    ids: Annotated[tuple[UUID, ...], Field(max_length=MOST_AT_ONCE)] = ()
    everything: bool = False
    more: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        conditions = self.which != Which()
        if self.ids and (conditions or self.everything):
            raise ValueError(f"ids go with none of {', '.join(CONDITIONS)}, everything: give one or the other")
        # Whoever takes everything part by part says until when, or would meet again what fails again meanwhile.
        if self.everything and self.which != Which(until=self.until):
            raise ValueError(f"everything goes with none of {', '.join(CONDITIONS)} but until: give one or the other")
        if not (self.ids or conditions or self.everything):
            raise ValueError(f'say which: ids, some of {", ".join(CONDITIONS)}, or {{"everything": true}}')
        return self


class Replay(Selection):
    """Failures that are to be run anew."""

    to: str | None = None
    ignore_deadline: bool = False

    @property
    def terms(self) -> Terms:
        """How."""
        return Terms(self.to, self.ignore_deadline)


def listing(query: QueryParams) -> Listing:
    """What a query string asks for; raises InvalidRequest."""
    said: dict[str, object] = dict(query)
    if "class" in said:
        said["class"] = query.getlist("class")
    try:
        return Listing.model_validate(said)
    except ValidationError as error:
        raise _fault(error, "") from None


def selection(kind: type[M], body: bytes) -> M:
    """What a body asks for; raises InvalidRequest."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise _fault(error, "/") from None


def _fault(error: ValidationError, before: str) -> InvalidRequest:
    fault = faults(error)[0]
    return InvalidRequest(fault.message, pointer=before + "/".join(fault.path) if fault.path else "")
