"""The OpenAI protocol: what is asked, and the bodies of answers and errors."""

import base64
import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

# OpenAI's own rule of thumb, about English.
CHARS_PER_TOKEN: Final = 4
CREATED: Final = 1_700_000_000  # any time will do; a fixed one keeps answers equal


class _Body(BaseModel):
    """A body that may say more than is understood here."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Turn(_Body):
    """A message of a conversation."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class StreamOptions(_Body):
    """What a stream is to tell besides the answer."""

    include_usage: bool = False


class ChatBody(_Body):
    """``POST /v1/chat/completions``."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Turn], Field(min_length=1)]
    max_tokens: PositiveInt | None = None
    max_completion_tokens: PositiveInt | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    @property
    def most_tokens(self) -> int | None:
        """Tokens the answer may have."""
        return self.max_completion_tokens or self.max_tokens


class EmbeddingsBody(_Body):
    """``POST /v1/embeddings``."""

    model: Annotated[str, Field(min_length=1)]
    input: str | list[str] | list[NonNegativeInt] | list[list[NonNegativeInt]]
    dimensions: PositiveInt | None = None
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def texts(self) -> list[str]:
        """What is to be embedded, each as a text; a list of token numbers is one."""
        if isinstance(self.input, str):
            return [self.input]
        if all(isinstance(token, int) for token in self.input):
            return [str(self.input)]
        return [str(text) for text in self.input]


@dataclass(frozen=True, slots=True)
class Completed:
    """An answer that was made up."""

    model: str
    id: str
    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int


def digest(body: ChatBody | EmbeddingsBody) -> str:
    """16 hexadecimal digits, the same for calls that want the same of the same model."""
    wanted = body.messages if isinstance(body, ChatBody) else body.input
    told = [body.model, _plain(wanted)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def input_tokens(body: ChatBody | EmbeddingsBody) -> int:
    """About how many tokens the prompt has; at least 1."""
    texts = [_text(turn) for turn in body.messages] if isinstance(body, ChatBody) else body.texts
    return max(1, math.ceil(sum(map(len, texts)) / CHARS_PER_TOKEN))


def completed(body: ChatBody, usual_tokens: int) -> Completed:
    """An answer of no meaning: it names the prompt's digest, so that one prompt's can't be taken for another's."""
    most = body.most_tokens
    tokens = usual_tokens if most is None else min(usual_tokens, most)
    words = ["Simulated", "answer", f"{digest(body)}.", *["And", "so", "on."] * (tokens // 3)]
    return Completed(
        model=body.model,
        id=f"chatcmpl-{digest(body)}",
        text=" ".join(words[:tokens]),
        finish_reason="length" if tokens < usual_tokens else "stop",
        input_tokens=input_tokens(body),
        output_tokens=tokens,
    )


def completion(done: Completed) -> dict[str, Any]:
    """The body of an answer."""
    message = {"role": "assistant", "content": done.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": done.finish_reason}
    return {**_head(done, "chat.completion"), "choices": [choice], "usage": _usage(done)}


def chunks(done: Completed, *, usage: bool) -> Iterator[bytes]:
    """The same as server-sent events, word by word."""
    head = _head(done, "chat.completion.chunk")

    def event(delta: dict[str, str], finish_reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**head, "choices": [choice]})

    yield event({"role": "assistant", "content": ""}, None)
    for place, word in enumerate(done.text.split(" ")):
        yield event({"content": f" {word}" if place else word}, None)
    yield event({}, done.finish_reason)
    if usage:
        yield _event({**head, "choices": [], "usage": _usage(done)})
    yield b"data: [DONE]\n\n"


def embeddings(body: EmbeddingsBody, usual_dimensions: int) -> dict[str, Any]:
    """Vectors of no meaning, listed last one first: the protocol has an index, and no order."""
    data = []
    for index, text in enumerate(body.texts):
        numbers = vector(text, body.dimensions or usual_dimensions)
        packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        told = packed if body.encoding_format == "base64" else numbers
        data.append({"object": "embedding", "index": index, "embedding": told})
    tokens = input_tokens(body)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data[::-1], "model": body.model, "usage": usage}


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of length 1, the same for equal texts and unlike for others."""
    drawn = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = [number / 2**15 - 1 + 2**-16 for (number,) in struct.iter_unpack("<H", drawn)]
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def models(names: Sequence[str]) -> dict[str, Any]:
    """The body of ``GET /v1/models``."""
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "simulator"} for name in names]
    return {"object": "list", "data": data}


def error(message: str, kind: str, *, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _head(done: Completed, kind: str) -> dict[str, Any]:
    return {"id": done.id, "object": kind, "created": CREATED, "model": done.model}


def _usage(done: Completed) -> dict[str, int]:
    total = done.input_tokens + done.output_tokens
    return {"prompt_tokens": done.input_tokens, "completion_tokens": done.output_tokens, "total_tokens": total}


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _text(turn: Turn) -> str:
    if isinstance(turn.content, list):
        return "".join(str(part.get("text", "")) for part in turn.content)
    return turn.content or ""


def _plain(wanted: Any) -> Any:
    if isinstance(wanted, list):
        return [_plain(one) for one in wanted]
    return wanted.model_dump() if isinstance(wanted, BaseModel) else wanted
