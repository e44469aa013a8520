"""Conversations as every family takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.media.parts import check_parts


def question_about(question: str, images: Sequence = (), videos: Sequence = (), **sampling) -> dict:
    """The user's message that shows images, and videos with the settings `sampling` as the Hub's format has them, and asks."""
    content = [{"type": "image", "image": image} for image in images]
    content += [{"type": "video", "video": video, **sampling} for video in videos]
    return {"role": "user", "content": [*content, {"type": "text", "text": question}]}


def check_conversation(conversation: Any) -> list[dict]:
    """Its messages, parts as `check_parts` writes them, without what is None.

    Raises:
        PromptError: no list of messages, or one without a role, or with neither content nor tool calls; parts that nobody knows.
    """
    if not isinstance(conversation, list | tuple) or not conversation or not all(map(_is_message, conversation)):
        raise PromptError(
            f"a conversation is a list of messages, each {{'role': ..., 'content': ...}}, but this was given: {conversation!r:.200}"
        )
    return [{name: value for name, value in one.items() if value is not None} for one in check_parts(conversation)]


def _is_message(message: Any) -> bool:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        return False
    return message.get("content") is not None or message.get("tool_calls") is not None
