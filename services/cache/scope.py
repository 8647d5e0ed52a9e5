"""Which earlier answers may be considered at all: those given under the same circumstances.

The scope of a request is everything but the prompt that changes the answer. Entries are found within one scope only, so
that no threshold, however bad, serves one tenant's answer to another.
"""

import hashlib
import json
import unicodedata
from uuid import UUID

from shared.events import CacheKey, Request


def cache_key(request: Request, *, embedder: str) -> CacheKey:
    """The key of a request, without its embedding; ``embedder`` is the version of the model that embeds."""
    circumstances = {
        "tenant": request.tenant,
        "model": request.model,
        "instructions": request.instructions,
        "earlier": [turn.model_dump() for turn in request.earlier],
        "max_output_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "embedder": embedder,
    }
    scope = _digest(json.dumps(circumstances, sort_keys=True))
    return CacheKey(scope=scope, exact=_digest(f"{scope}\n{normalised(request.prompt)}"), prompt=request.prompt)


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
