"""Seeded changes of requests' bodies for the server: wrong kinds, sizes and names, hostile addresses, broken JSON and pictures."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from served import FILM, PICTURE, asked, data_uri, new_picture

TOOL = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
SMALL = data_uri(new_picture(7))
VIDEO = {"type": "video_url", "video_url": {"url": data_uri(FILM.read_bytes(), "video/mp4")}, "nframes": 2}
SOUND: dict[str, list[dict[str, Any]]] = {  # all fields of each route are in one of these
    "/v1/chat/completions": [
        {"model": "demo", "messages": asked("What do you see?", SMALL), "max_tokens": 4, "grounding": True},
        {
            "messages": [
                {"role": "system", "content": "You see shapes."},
                *asked("What?", data_uri(PICTURE.read_bytes())),
            ],
            "max_completion_tokens": 3,
            "temperature": 1.5,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "seed": 3,
            "n": 2,
            "stop": ["star", "."],
            "logprobs": True,
            "top_logprobs": 3,
            "logit_bias": {"5": -10, "7": 2.5},
            "presence_penalty": 0.5,
            "frequency_penalty": -0.5,
            "repetition_penalty": 1.1,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        {
            "messages": [
                *asked("What?"),
                {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "paint", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "done"},
            ],
            "max_tokens": 4,
            "tools": [TOOL],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "min_tokens": 1,
            "stop_token_ids": [5, 6],
            "ignore_eos": True,
            "priority": 1,
            "cache_salt": "salt",
            "user": "someone",
            "metadata": {"a": "b"},
        },
        {
            "messages": [{"role": "user", "content": [VIDEO, {"type": "text", "text": "What?"}]}],
            "max_tokens": 2,
            "mm_processor_kwargs": {"min_pixels": 784, "max_pixels": 50176, "fps": 1.0, "max_frames": 4},
            "chat_template_kwargs": {"add_vision_id": True},
            "skip_special_tokens": False,
        },
        {
            "messages": asked("What?", SMALL),
            "max_tokens": 8,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
        },
        {"messages": asked("What?", SMALL), "max_tokens": 8, "response_format": {"type": "boxes", "labels": ["a"]}},
        {"messages": asked("What?"), "max_tokens": 8, "structured_outputs": {"regex": "[a-c]{1,4}"}},
        {"messages": asked("What?"), "max_tokens": 8, "structured_outputs": {"grammar": 'start: "a" | "b"'}},
    ],
    "/v1/completions": [
        {"model": "demo", "prompt": ["a red", "two blue"], "max_tokens": 3, "logprobs": 2, "n": 2, "seed": 1},
        {"prompt": [5, 6, 7], "max_tokens": 3, "stream": True, "stop": "star", "best_of": 1},
    ],
    "/tokenize": [
        {"model": "demo", "prompt": "a red circle", "add_special_tokens": True, "return_token_strs": True},
        {"messages": asked("What?", SMALL), "add_generation_prompt": True},
    ],
    "/detokenize": [{"model": "demo", "tokens": [5, 6, 7]}],
}
NAMES = sorted({name for bodies in SOUND.values() for body in bodies for name in body})
LONG = "a red circle " * 5000
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"),
    "", " ", "\0", "\ud800", "\u202e", "demo", "../demo", LONG, "<|im_end|>", "<|vision_start|><|image_pad|><|vision_end|>",
    "<|video_pad|>" * 50, "(a|aa)+" * 20 + "$", "(((((" * 50, "\\d{1,99999}", 'start: start "a"', '%json {"type": 1}',
    [], {}, [[]], [{}], {"": ""}, [None], [0] * 2000, ["a"] * 2000, {"a": 1, "__class__": "x"}, {"$ref": "#"},
    {"type": "object", "patternProperties": {"(a+)+": {}}}, {"allOf": [{"$ref": "#"}]}, {"type": "nothing"},
    "file:///etc/passwd", "/etc/passwd", "../../etc/passwd", "file://localhost/etc/hosts", "http://127.0.0.1/x.png",
    "http://169.254.169.254/latest/meta-data", "http://[::1]/x.png", "http://localhost:22/", "http://0x7f000001/",
    "https://example.invalid/x.png", "ftp://example.invalid/x.png", "http://user:secret@example.invalid/", "http://",
    "data:", "data:image/png;base64,", "data:image/png;base64,????", "data:image/png,hello", "data:text/html;base64,QUFB",
    "data:image/svg+xml;base64,PHN2Zy8+", "data:video/mp4;base64,AAAA", "data:video/jpeg;base64,AAAA,AAAA", "data:image/png;base64,"
    + "A" * 4000, {"url": SMALL, "detail": "huge"}, {"url": None}, {"role": "user"}, {"role": "nobody", "content": "x"},
    {"type": "text", "text": 5}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "input_audio", "input_audio": {}},
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request.

    Attributes:
        path: of the route.
        body: bytes as they are sent, JSON or not.
        headers: besides the content's length.
    """

    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def changed_request(seed: int) -> Sent:
    """The request of a seed: one that is sound, changed in up to three places (now and then in none), sometimes as bytes."""
    draw = random.Random(seed)
    path = draw.choices([*SOUND], weights=[8, 3, 2, 1])[0]
    content = copy.deepcopy(draw.choice(SOUND[path]))
    for _ in range(draw.choice([0, 1, 1, 1, 1, 2, 3])):
        content = changed(content, draw)
    body = json.dumps(content).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json"}
    if draw.random() < 0.1:
        body = changed_bytes(body, draw)
    if draw.random() < 0.02:
        headers = draw.choice([{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}])
    return Sent(path, body, headers)


def changed(content: Any, draw: random.Random) -> Any:
    """A body with one change, at any depth; now and then another body altogether."""
    places = [*_places(content)]
    if not places or draw.random() < 0.03:
        return _value(draw)
    holder, key = draw.choice(places)
    value, what = holder[key], draw.randrange(10)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(value, list | str):
        holder[key] = value * draw.choice([0, 2, 3, 40])
    elif what == 2 and isinstance(value, str) and "base64," in value:
        holder[key] = _damaged(value, draw)
    elif what == 3:
        holder[key] = _nested(value, draw)
    elif what == 4 and isinstance(holder, dict):
        holder[draw.choice([*NAMES, "tempature", "a.b", "x" * 300, "\n", "<script>"])] = _value(draw)
    elif what == 5:
        holder[key] = copy.deepcopy(draw.choice(places)[0])
    elif what < 8:
        holder[key] = _near(value, draw)
    else:
        holder[key] = _value(draw)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object in a body, with each of its keys."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _places(value)


def _value(draw: random.Random, kind: type = object) -> Any:
    return copy.deepcopy(draw.choice([each for each in VALUES if isinstance(each, kind)]))


def _near(value: Any, draw: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return draw.choice([0, 1, 2, -1, 0.5, 1.0, value + 1, value * 2, -value, value * 100])
    kind = list if isinstance(value, list) else dict if isinstance(value, dict) else str
    return _value(draw, kind)


def _damaged(uri: str, draw: random.Random) -> str:
    """The same file with a sign changed, cut off, or under another kind's name."""
    head, _, data = uri.partition("base64,")
    place = draw.randrange(len(data) + 1)
    return draw.choice(
        [
            f"{head}base64,{data[:place]}{draw.choice('AQgw/')}{data[place + 1 :]}",
            f"{head}base64,{data[: place // 4 * 4]}",
            f"data:{draw.choice(['image/jpeg', 'video/mp4', 'image/gif', 'x/y', ''])};base64,{data}",
        ]
    )


def _nested(value: Any, draw: random.Random) -> Any:
    for _ in range(draw.choice([1, 2, 30, 100])):
        value = draw.choice([[value], {"a": value}])
    return value


def changed_bytes(body: bytes, draw: random.Random) -> bytes:
    """JSON broken as a text."""
    place = draw.randrange(len(body) + 1)
    return draw.choice(
        [
            body[:place],
            body[:place] + bytes([draw.randrange(256)]) + body[place + 1 :],
            body[:place] + b"\xff\xfe" + body[place:],
            body + body,
            b"\xef\xbb\xbf" + body,
            body.replace(b'{"', b'{"model": "demo", "', 1),
            b"[" * 100_000,
            b'{"messages":' * 20_000,
            b"",
        ]
    )
