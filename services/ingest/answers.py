"""The answer to a tenant's request, for who has something to say about it."""

from http import HTTPStatus
from uuid import UUID

from starlette.exceptions import HTTPException

from services.ingest.identity import Identities
from services.ingest.results import Results
from shared.events import ResponseCompleted


async def answer_to(request_id: UUID, tenant: str, results: Results, identities: Identities) -> ResponseCompleted:
    """The answer that a tenant's request was given.

    Raises:
        HTTPException: 404 for a request that is not the tenant's own, 409 where it has no answer.
        DatabaseUnavailable: memory does not know, and PostgreSQL is away.
    """
    known = await results.find(tenant, request_id)
    if known is None and not identities.ours(tenant, request_id):
        raise HTTPException(HTTPStatus.NOT_FOUND, f"no request has the id {request_id}")
    if known is None or known.result is None:
        raise HTTPException(HTTPStatus.CONFLICT, "this request has no answer yet")
    if not isinstance(known.result, ResponseCompleted):
        raise HTTPException(HTTPStatus.CONFLICT, f"this request was given no answer: {known.result.code}")
    return known.result
