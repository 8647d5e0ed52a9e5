"""Which earlier answers may be considered at all: those given under the same circumstances.

The scope of a request is everything but the prompt that changes the answer. Entries are found within one scope only, so
that no threshold, however bad, serves one tenant's answer to another. What a request has is part of its scope unless
it is named here as harmless: a field somebody adds later divides the cache, and never mixes it.
"""

import hashlib
import json
import unicodedata
from typing import Final
from uuid import UUID

from shared.events import CacheKey, Request

# Parts of a request that do not change the answer; the prompt is the key within the scope.
HARMLESS: Final = frozenset(
    (
        *("id", "priority", "accepted_at", "digest", "reply", "cache_control"),
        *("metadata", "deadline", "firm_deadline", "webhook_url", "input", "tenant", "replay"),
    )
)


def cache_key(request: Request, *, embedder: str, pool: str | None = None) -> CacheKey:
    """The key of a request, without its embedding.

    ``embedder`` is the version of the model that embeds; ``pool`` names the tenants whose answers are shared, None
    where the tenant keeps its own.
    """
    owner = {"tenant": request.tenant} if pool is None else {"pool": pool}
    earlier = [turn.model_dump() for turn in request.earlier]
    circumstances = (
        owner | {"earlier": earlier} | request.model_dump(mode="json", exclude=set(HARMLESS), exclude_none=True)
    )
    base = _digest(json.dumps(circumstances, sort_keys=True))
    scope, prompt = scope_of(base, embedder), normalised(request.prompt)
    return CacheKey(scope=scope, exact=exact_of(scope, prompt), base=base, embedder=embedder, prompt=prompt)


def scope_of(base: UUID, embedder: str) -> UUID:
    """The scope of a request's circumstances under an embedder: entries of two embedders are never compared."""
    return _digest(f"{base}\n{embedder}")


def exact_of(scope: UUID, prompt: str) -> UUID:
    """The exact key of a normalised prompt in a scope."""
    return _digest(f"{scope}\n{prompt}")


def normalised(prompt: str) -> str:
    """A prompt without what never changes its meaning: Unicode form (NFC), and white space at its ends.

    Case and inner white space stay: they carry meaning in code, in names and in poems.
    """
    return unicodedata.normalize("NFC", prompt).strip()


def _digest(text: str) -> UUID:
    """SHA-256, cut to the 122 free bits of a UUID of version 8 (RFC 9562; Python 3.11 cannot set it)."""
    value = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)
    return UUID(int=value & ~(0b11 << 62) | (0b10 << 62))
