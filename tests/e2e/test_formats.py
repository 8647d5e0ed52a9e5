"""Output formats on the real stack: the local model's server holds the model to them."""

import json

from tests.e2e.conftest import Api

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "country": {"enum": ["France", "Spain"]}},
    "required": ["city", "country"],
    "additionalProperties": False,
}
TOKENS = 60  # enough for the object to end


async def test_an_answer_follows_its_schema(api: Api) -> None:
    said = {"format": {"type": "json_schema", "name": "capital", "schema": SCHEMA, "strict": True}}
    answer = await api.answer("What is the capital of France?", text=said, top_p=0.5, max_output_tokens=TOKENS)
    found = json.loads(answer["output_text"])
    assert set(found) == {"city", "country"}
    assert found["country"] in ("France", "Spain")


async def test_an_answer_may_just_have_to_be_json(api: Api) -> None:
    said = {"format": {"type": "json_object"}}
    prompt = "What is the capital of France? Answer as JSON."
    answer = await api.answer(prompt, text=said, temperature=0.0, max_output_tokens=TOKENS)
    assert isinstance(json.loads(answer["output_text"]), dict)


async def test_sampling_and_format_are_part_of_what_was_asked(api: Api) -> None:
    prompt = "Name a capital, as JSON."
    await api.answer(prompt)
    others = [
        await api.answer(prompt, top_p=0.5),
        await api.answer(prompt, text={"format": {"type": "json_object"}}),
    ]
    assert [answer["source"] for answer in others] == ["light", "light"]
