"""The whole path as one builds it on a framework: five stages, the same parts, the usual way to store.

The embedder is Forebay's own, the table of answers is searched with pgvector, litellm is called, and each request and
each answer is inserted when it is there. There are no guards, no audits, no coalescing, no limits, no routing rules and
no counting of topics, and nobody waits for results, so these stages have less to do than Forebay's.
"""

import hashlib
import os
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from pydantic import BaseModel, Field

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

DSN: Final = "BENCH_DSN"
PROVIDER: Final = "BENCH_PROVIDER"
MODEL: Final = "openai/simulated"
POOL: Final = 20
NEAR: Final = 0.85
SHORT: Final = 40  # words, up to which a prompt is for the light model
STAGES: Final = ("taken", "looked", "chosen", "answered", "kept")
TABLES: Final = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS asked (
  id uuid PRIMARY KEY, tenant text NOT NULL, prompt text NOT NULL, sent_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS answers (
  id uuid PRIMARY KEY, tenant text NOT NULL, prompt text NOT NULL, answer text NOT NULL, source text NOT NULL,
  tokens int NOT NULL, sent_at timestamptz NOT NULL, at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS cached (
  key text PRIMARY KEY, tenant text NOT NULL, embedding halfvec(384) NOT NULL, answer text NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS near ON cached USING hnsw (embedding halfvec_cosine_ops);
"""
EXACT: Final = "SELECT answer FROM cached WHERE key = $1 AND expires_at > now()"
NEAREST: Final = """
SELECT answer, 1 - (embedding <=> $1::halfvec) AS similarity FROM cached
WHERE tenant = $2 AND expires_at > now() ORDER BY embedding <=> $1::halfvec LIMIT 1
"""
INSERT_ASKED: Final = "INSERT INTO asked (id, tenant, prompt, sent_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
INSERT_ANSWER: Final = """
INSERT INTO answers (id, tenant, prompt, answer, source, tokens, sent_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
"""
INSERT_CACHED: Final = """
INSERT INTO cached (key, tenant, embedding, answer, expires_at)
VALUES ($1, $2, $3::halfvec, $4, now() + interval '7 days') ON CONFLICT DO NOTHING
"""


class Asked(BaseModel):
    """What is submitted, and what the stages add to it."""

    prompt: str
    tenant: str = "default"
    sent_at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    id: str = Field(default_factory=lambda: str(uuid4()))
    embedding: str | None = None
    tier: str | None = None
    answer: str | None = None
    source: str | None = None
    tokens: int = 0

    @property
    def key(self) -> str:
        """Of the table of cached answers."""
        return hashlib.sha256(f"{self.tenant}\0{self.prompt}".encode()).hexdigest()


def written(vector: Any) -> str:
    """A vector as pgvector reads it."""
    return "[" + ",".join(f"{value:.5f}" for value in vector) + "]"


def after(stage: str, asked: Asked) -> str | None:
    """The stage that follows: an answer from the cache is kept at once; None at the end."""
    if stage == "looked" and asked.answer is not None:
        return "kept"
    place = STAGES.index(stage) + 1
    return STAGES[place] if place < len(STAGES) else None


def chosen(asked: Asked) -> Asked:
    """The tier by the length of the prompt."""
    return asked.model_copy(update={"tier": "light" if len(asked.prompt.split()) <= SHORT else "premium"})


def completion(asked: Asked) -> dict[str, Any]:
    """What litellm is called with."""
    return {
        "model": MODEL,
        "api_base": os.environ[PROVIDER],
        "api_key": "bench",
        "messages": [{"role": "user", "content": asked.prompt}],
        "max_tokens": 100,
    }


def answered(asked: Asked, done: Any) -> Asked:
    """With what litellm gave."""
    text, tokens = done.choices[0].message.content, done.usage.total_tokens
    return asked.model_copy(update={"answer": text, "tokens": tokens, "source": asked.tier})


def taken(asked: Asked) -> tuple[Any, ...]:
    """The row of the request."""
    return (asked.id, asked.tenant, asked.prompt, asked.sent_at)


def row(asked: Asked) -> tuple[Any, ...]:
    """The row of its answer."""
    return (asked.id, asked.tenant, asked.prompt, asked.answer, asked.source, asked.tokens, asked.sent_at)


def cached(asked: Asked) -> tuple[Any, ...]:
    """The row of the answer that is to be found again."""
    return (asked.key, asked.tenant, asked.embedding, asked.answer)
