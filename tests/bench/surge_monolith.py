"""What most people have: one web application that calls the model while its client waits, and then inserts a row.

Done well: an asynchronous handler, a pool of 20 connections of which one is held for the INSERT alone, litellm's own
retries, and a refusal of the provider is told to the client as such.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
import litellm
from litellm.exceptions import RateLimitError

litellm.suppress_debug_info = True

POOL: Final = 20
RETRIES: Final = 3
TABLE: Final = """
CREATE TABLE IF NOT EXISTS answers (
    id uuid PRIMARY KEY, tenant text NOT NULL, prompt text NOT NULL, status text NOT NULL, answer text,
    tokens integer, at timestamptz NOT NULL DEFAULT now()
)
"""
INSERT: Final = "INSERT INTO answers (id, tenant, prompt, status, answer, tokens) VALUES ($1, $2, $3, $4, $5, $6)"


class Question(BaseModel):
    """The body of a request."""

    prompt: str
    tenant: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """The pool, for as long as the application runs."""
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=0, max_size=POOL) as pool:
        await pool.execute(TABLE)
        app.state.pool = pool
        yield


app: Final = FastAPI(lifespan=lifespan)


@app.post("/answers")
async def answer(question: Question) -> dict[str, Any]:
    """Call the model, keep the answer, tell it."""
    try:
        done = await litellm.acompletion(
            model=os.environ["BENCH_MODEL"],
            api_base=os.environ["BENCH_PROVIDER"],
            api_key="bench",
            messages=[{"role": "user", "content": question.prompt}],
            num_retries=RETRIES,
        )
    except RateLimitError as error:
        raise HTTPException(429, "the provider takes no more at the moment") from error
    request_id, text = uuid4(), done.choices[0].message.content
    tokens = done.usage.total_tokens
    await app.state.pool.execute(INSERT, request_id, question.tenant, question.prompt, "completed", text, tokens)
    return {"id": str(request_id), "status": "completed", "output_text": text}


@app.get("/readyz")
async def ready() -> None:
    """200: it runs."""


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
