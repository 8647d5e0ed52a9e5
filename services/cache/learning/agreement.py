"""Whether two answers say the same: what an audit compares.

Answers are longer and freer than prompts, so they are compared by meaning. Of two short ones one may say more than the
other, but neither may contradict: "safe" and "not safe" have a cosine of 0.99, so numbers, negations and opposites are
looked at by themselves. The threshold is the policy's, and errs on the side
of calling different what is the same: a hit that looks wrong costs a stricter threshold, not a wrong answer.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import numpy as np

from services.cache.verification.guards import opposed
from services.cache.verification.numbers import numbers
from shared.embedding.builtin import Vectors
from shared.events import CacheAudited, Evidence
from shared.telemetry import metrics

# Answers up to this length are compared word by word; longer ones count and deny in passing.
SHORT_WORDS: Final = 40

Embed = Callable[[Sequence[str]], Awaitable[Vectors]]


def finding(
    agrees: float,
    least: float,
    *,
    kind: Literal["audit", "free"],
    tenant: str,
    request_id: UUID,
    scope: UUID,
    entry_id: UUID,
    evidence: Evidence,
    sampled: float,
    now: datetime,
) -> CacheAudited:
    """What a comparison found about an entry; from an agreement of ``least`` on, two answers are the same."""
    same = agrees >= least
    metrics.AUDITS.labels(kind, "same" if same else "different").inc()
    return CacheAudited(
        audit_id=request_id,
        kind=kind,
        tenant=tenant,
        request_id=request_id,
        scope=scope,
        entry_id=entry_id,
        evidence=evidence,
        served=kind == "audit",
        same=same,
        agreement=agrees,
        sampled=sampled,
        audited_at=now,
    )


async def agreement(embed: Embed, one: str, other: str) -> float:
    """How much two answers agree: 1 for the same words, 0 for a contradiction, else the cosine similarity."""
    if one.split() == other.split():
        return 1.0
    if contradict(one, other):
        return 0.0
    a, b = await embed([one, other])
    return float(np.clip(a @ b, 0.0, 1.0))


def contradict(one: str, other: str) -> bool:
    """Whether two short answers can't both be meant: one denies, or says the opposite, or names other numbers."""
    if max(len(one.split()), len(other.split())) > SHORT_WORDS:
        return False
    a, b = ({number for found in numbers(text) for number in found} for text in (one, other))
    return (bool(a and b) and not (a <= b or b <= a)) or opposed(one, other)
