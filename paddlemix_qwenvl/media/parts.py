"""The parts of messages: texts, images and videos, in whichever of the usual forms they are written."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PromptError

Message = Mapping[str, Any]

KINDS = {"text": "text", "image": "image", "image_url": "image", "video": "video", "video_url": "video"}
SOURCES = {
    "text": ("text",),
    "image": ("image", "image_url", "url", "path"),
    "video": ("video", "video_url", "url", "path"),
}


def check_parts(messages: Sequence[Message]) -> list[Message]:
    """The messages of one conversation, each part in the form that the Hub's templates know: `{"type": "text", "text": ...}`,
    `{"type": "image", "image": ..., **settings}` or the same with "video"; without what is None.

    Parts may also be written as qwen_vl_utils takes them (without a type), OpenAI (`image_url`, `video_url`, whose value
    may be `{"url": ...}`) and transformers (`url` or `path` beside the type). An image or a video may be left out, where it
    is given elsewhere. A content that is a string or None stays as it is, and so does all else in a message.
    Raises PromptError for what is no message and for parts of other kinds, which templates leave out in silence.
    """
    if not isinstance(messages, list | tuple):
        raise PromptError(f"Messages are a list of {{'role': ..., 'content': ...}}, not {type(messages).__name__}.")
    return [_message(message) for message in messages]


def _message(message: Any) -> Message:
    if not isinstance(message, Mapping):
        raise PromptError(f"A message is {{'role': ..., 'content': ...}}, not {type(message).__name__}.")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return message
    if not isinstance(content, list | tuple):
        raise PromptError(f"The content of a message is a text or a list of parts, not {type(content).__name__}.")
    return {**message, "content": [_part(part) for part in content]}


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, Mapping):
        raise PromptError(
            f"An element of content is {{'type': ..., ...}}, not {type(part).__name__}; "
            "write {'type': 'text', 'text': ...}."
        )
    part = {name: value for name, value in part.items() if value is not None}
    kind = _kind(part)
    sources = [name for name in SOURCES[kind] if name in part]
    others = [name for name in KINDS if name in part and KINDS[name] != kind]
    if others or len(sources) > 1:
        raise PromptError(
            f"A part that is {kind} holds {', '.join(sources + others)}; give each text, image and video its own part."
        )
    content = {kind: part[sources[0]]} if sources else {}
    if isinstance(content.get(kind), Mapping):
        content[kind] = content[kind].get("url")
    if kind == "text" and not isinstance(content.get("text"), str):
        raise PromptError(f"A part of type 'text' holds a string under 'text'; this one holds {_names(part)}.")
    return {"type": kind, **content, **{name: value for name, value in part.items() if name not in ("type", *sources)}}


def _kind(part: Mapping[str, Any]) -> str:
    """A part's kind by its type or, without one, by what it holds. Raises PromptError."""
    if "type" not in part:
        name = next((name for name in KINDS if name in part), None)
    else:
        name = part["type"] if isinstance(part["type"], str) else None
    if name not in KINDS:
        raise PromptError(
            f"A part of type {part.get('type')!r:.80} that holds {_names(part)} is not known; "
            f"known types are {', '.join(KINDS)}."
        )
    return KINDS[name]


def _names(part: Mapping[str, Any]) -> str:
    return ", ".join(str(name) for name in part if name != "type")[:80] or "nothing"
