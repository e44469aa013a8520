"""OpenAI's messages as those of the Hub, which chat templates know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from paddlemix_qwenvl.server import tool_calls
from paddlemix_qwenvl.server.protocol import VideoOptions
from paddlemix_qwenvl.server.protocol_chat import (
    AssistantMessage,
    Conversation,
    ImagePart,
    Message,
    RefusalPart,
    SystemMessage,
    TextPart,
    ToolMessage,
    VideoPart,
)

LOW_DETAIL = 512 * 512  # pixels


def media_parts(body: Conversation) -> list[dict[str, Any]]:
    """The pictures and videos of a conversation in their order, as parts of the Hub's format that name their source."""
    return [
        _media_part(part, body.mm_processor_kwargs)
        for message in body.messages
        if isinstance(message.content, list)
        for part in message.content
        if isinstance(part, ImagePart | VideoPart)
    ]


def _media_part(part: ImagePart | VideoPart, common: VideoOptions | None) -> dict[str, Any]:
    source = getattr(part, part.type)
    kind, names = part.type.removesuffix("_url"), type(part).__base__.model_fields
    low = isinstance(part, ImagePart) and not isinstance(source, str) and source.detail == "low"
    options = {"max_pixels": LOW_DETAIL} if low else {}
    for given in (common, part):
        values = {name: getattr(given, name, None) for name in names}
        options |= {name: value for name, value in values.items() if value is not None}
    return {"type": kind, kind: source if isinstance(source, str) else source.url, **options}


def hub_messages(body: Conversation, media: Sequence[Any], escape: Callable[[str], str]) -> list[dict[str, Any]]:
    """The messages with their pictures and videos, tools and calls written out.

    Args:
        media: decoded, in the order of `media_parts`.
        escape: makes plain text of what spells a special token.
    """
    shown = (part | {part["type"]: one} for part, one in zip(media_parts(body), media, strict=True))
    written = []
    for is_result, messages in groupby(body.messages, lambda message: isinstance(message, ToolMessage)):
        if is_result:  # the model was taught to read them in one message of the user's
            results = [tool_calls.answered(_words(message)) for message in messages]
            written.append({"role": "user", "content": escape("\n".join(results))})
        else:
            written += [_written(message, shown, escape) for message in messages]
    if tools := tool_calls.offered(body):
        is_first = written[0]["role"] == "system"
        text = tool_calls.system_text(written.pop(0)["content"] if is_first else None, escape(tool_calls.told(tools)))
        written.insert(0, {"role": "system", "content": text})
    return written


def _written(message: Message, shown: Iterator[dict], escape: Callable[[str], str]) -> dict[str, Any]:
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": escape(_words(message))}
    if isinstance(message, AssistantMessage):
        texts = [_words(message), tool_calls.called(message.tool_calls or [])]
        return {"role": "assistant", "content": escape("\n".join(filter(None, texts)))}
    if isinstance(message.content, str):
        return {"role": "user", "content": escape(message.content)}
    parts = [
        {"type": "text", "text": escape(part.text)} if isinstance(part, TextPart) else next(shown)
        for part in message.content
    ]
    return {"role": "user", "content": parts}


def _words(message: Message) -> str:
    """The text of a message without media."""
    content = message.content or getattr(message, "refusal", None) or ""
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)
