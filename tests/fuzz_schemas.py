"""Random JSON schemas that an engine's answers follow, of a model that knows nothing and of the demo.

`python tests/fuzz_schemas.py COUNT [FIRST_SEED]` has both answer COUNT schemas, and prints how many answers ended, how many had
to be brought to an end, and those that are not valid.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import guided
import hub_model
import jsonschema

from paddlemix_qwenvl.engine.events import Failed, Finished
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.models.conversations import question_about

QUESTION = question_about("Locate every shape, output the bbox coordinates in JSON.")
MAX_NEW_TOKENS, AT_ONCE, EAGER = 200, 8, 3.0
FORMATS = ["date", "uuid", "ipv4"]
PATTERNS = ["^[a-z]+-\\d{2}$", "^(yes|no)!*$", "^\\w{2,5}$", "^图"]
VALUES = ["a", "ab", 'q"\\', "图", "<|im_end|>", 1, -2.5, True, None, [1, {"x": []}]]
NODE = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "next": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["next"],
}


def random_schema(draws: random.Random, depth: int = 0) -> dict:
    """A JSON schema that llguidance knows; few levels."""
    if depth == 3 or draws.random() < 0.45:
        return _scalar(draws)
    inner = [random_schema(draws, depth + 1) for _ in range(draws.randint(1, 3))]
    names = draws.sample(["id", "name", "图", "x y", 'a"b'], len(inner))
    fields = {"type": "object", "properties": dict(zip(names, inner, strict=True))}
    fields["required"] = draws.sample(names, draws.randint(0, len(names)))
    least, one, other = draws.randint(0, 2), inner[0], inner[-1]
    kinds = [
        fields,
        {**fields, "additionalProperties": False},
        {**fields, "additionalProperties": other},
        {"type": "object", "additionalProperties": one},
        {"type": "object", "patternProperties": {"^x_": one}, "additionalProperties": False},
        {"type": "array", "items": one, "minItems": least, "maxItems": least + draws.randint(0, 3)},
        {"type": "array", "items": one},
        {"type": "array", "prefixItems": inner, "items": False, "minItems": len(inner)},
        {"type": "array", "prefixItems": inner, "items": other},
        {"anyOf": inner},
        {"oneOf": [{"type": "array", "items": one}, {"type": "integer"}]},
        *([{"$defs": {"node": NODE}, "$ref": "#/$defs/node"}] if not depth else []),
    ]
    return draws.choice(kinds)


def _scalar(draws: random.Random) -> dict:
    low, more = draws.randint(-50, 50), draws.randint(1, 5000)
    kinds = [
        {"type": "integer", "minimum": low, "maximum": low + more},
        {"type": "integer", "multipleOf": draws.randint(2, 9), "minimum": low},
        {"type": "integer", "exclusiveMinimum": low * more},
        {"type": "number", "minimum": low, "exclusiveMaximum": low + draws.randint(1, 50)},
        {"type": "number", "exclusiveMinimum": low / 8, "maximum": low / 8 + 0.3},
        {"type": "string", "minLength": draws.randint(0, 3), "maxLength": draws.randint(3, 9)},
        {"type": "string", "pattern": draws.choice(PATTERNS)},
        {"type": "string", "format": draws.choice(FORMATS)},
        {"type": "string"},
        {"enum": draws.sample(VALUES, 3)},
        {"const": draws.choice(["e\u0301", 12, {"k": [False]}])},
        {"type": draws.sample(["integer", "null", "string", "boolean"], 2)},
        {"allOf": [{"type": "integer", "minimum": low}, {"maximum": low + more}]},
        {"type": "boolean"},
        {},
    ]
    return draws.choice(kinds)


def check(schema: dict, text: str) -> None:
    """Raises ValueError or ValidationError for a text that is no JSON of this schema."""
    checker = jsonschema.FormatChecker(FORMATS)
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))


@dataclass
class Outcome:
    """What came of one schema: the answer, whether it ended by itself, and why it is not valid."""

    seed: int
    schema: dict
    text: str
    ended: bool
    problem: str = ""


def run(assistant: Assistant, seeds: Iterable[int]) -> Iterator[Outcome]:
    """Answers to the schemas of these seeds, greedy ones and samples by turns, several at once."""
    seeds = [*seeds]
    for start in range(0, len(seeds), AT_ONCE):
        asked = {}
        for seed in seeds[start : start + AT_ONCE]:
            schema = random_schema(random.Random(seed))
            request = _request(assistant, schema, seed)
            asked[assistant.engine.add(request)] = seed, schema, request.grammar
        for event in assistant.engine.run():
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                yield _outcome(assistant, event, *asked[event.request_id])


def _request(assistant: Assistant, schema: dict, seed: int):
    """With a liking for what brings an answer to its end."""
    eager = assistant.processor.tokenizer.convert_tokens_to_ids(guided.HURRY[:3])
    settings = {"do_sample": bool(seed % 2), "temperature": 1.5, "top_k": 0, "seed": seed}
    settings["logit_bias"] = dict.fromkeys(eager, EAGER)
    return assistant.request([QUESTION], schema=schema, max_new_tokens=MAX_NEW_TOKENS, **settings)[0]


def _outcome(assistant: Assistant, event: Finished, seed: int, schema: dict, grammar) -> Outcome:
    tokenizer, ended = assistant.processor.tokenizer, event.reason == "stop"
    ids = [token for token in event.token_ids if token not in grammar.vocabulary.end_ids]
    text = tokenizer.decode(ids) if ended else guided.answer(grammar, tokenizer, seed, patience=0, begun=ids)[1]
    try:
        check(schema, text)
    except (ValueError, jsonschema.ValidationError) as error:
        return Outcome(seed, schema, text, ended, str(error).splitlines()[0])
    return Outcome(seed, schema, text, ended)


def main(count: int, first: int = 0) -> int:
    """1 if an answer is not valid."""
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        config = hub_model.config()
        hub_model.write_processor(hub_model.write(Path(folder), config, hub_model.tensors(config)))
        for model in (folder, "demo"):
            assistant, found = Assistant.load(model, dtype="float32"), Counter()
            for outcome in run(assistant, range(first, first + count)):
                found["ended" if outcome.ended else "brought to an end"] += 1
                wrong += [outcome] if outcome.problem else []
            print("the demo" if model == "demo" else "a random model", dict(found))
    print(f"{len(wrong)} are not valid:", *wrong[:20], sep="\n  ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
