"""From messages and grids to the prompt's text. Needs neither Paddle nor PaddleNLP, so the predictor uses it too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.media.patches import PatchSettings

IMAGE_TOKEN = "<|image_pad|>"
VIDEO_TOKEN = "<|video_pad|>"
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


def read_chat_template(folder: str | os.PathLike) -> str | None:
    """The Jinja chat template of a Hub folder, from whichever of its files holds one."""
    for name in TEMPLATE_FILES:
        path = Path(folder) / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            template = text if path.suffix == ".jinja" else json.loads(text).get("chat_template")
            if isinstance(template, str):
                return template
    return None


def render_chat(
    template: str | None, messages: list, add_generation_prompt: bool = False, **variables
) -> str | list[str]:
    """The prompt's text, with one placeholder for each image and video.

    Args:
        template: Jinja text, run in a sandbox.
        messages: one conversation (a list of messages in the Hub's format), or a list of conversations.
        add_generation_prompt: end with the opening of the assistant's turn.
        variables: what else the template may read (`add_vision_id=True` numbers the pictures).

    Returns:
        One text, or one for each conversation.

    Raises:
        PromptError: there is no template, or it refuses the messages.
    """
    if template is None:
        raise PromptError(
            f"the model's folder has no chat template: put one of {', '.join(TEMPLATE_FILES)} from the Hub beside its tokenizer."
        )
    from jinja2 import TemplateError

    batched = isinstance(messages, list | tuple) and bool(messages) and isinstance(messages[0], list | tuple)
    conversations = messages if batched else [messages]
    for conversation in conversations:
        _check(conversation)
    try:
        texts = [
            _compile(template).render(messages=conversation, add_generation_prompt=add_generation_prompt, **variables)
            for conversation in conversations
        ]
    except (TemplateError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError) as error:
        raise PromptError(f"the chat template does not take these messages: {error}") from error
    return texts if batched else texts[0]


def _check(conversation) -> None:
    """A template leaves out in silence what it does not find."""
    fits = isinstance(conversation, list | tuple) and bool(conversation)
    if not fits or not all(isinstance(m, Mapping) and {"role", "content"} <= set(m) for m in conversation):
        raise PromptError(
            f"a conversation is a list of messages, each {{'role': ..., 'content': ...}}, but this was given: {conversation!r:.200}"
        )


@lru_cache(maxsize=8)
def _compile(template: str):
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str):
    """What the Hub's templates call on messages they cannot take."""
    raise ValueError(message)


def grow_placeholders(texts: list[str], token: str, grid_thw, merge_size: int, kind: str) -> list[str]:
    """Repeat each placeholder as often as its image or video has tokens.

    Args:
        texts: prompts, with the placeholders of all of them in the order of `grid_thw`.
        token: the placeholder.
        grid_thw: int `[images, 3]`, or None for no image.
        merge_size: side of the square of patches that becomes one token.
        kind: "image" or "video", for the message.

    Raises:
        PromptError: more placeholders than images, or fewer.
    """
    grids = [] if grid_thw is None else np.asarray(grid_thw)
    counts = [int(np.prod(grid)) // merge_size**2 for grid in grids]
    found = sum(text.count(token) for text in texts)
    if found != len(counts):
        raise PromptError(
            f"the text has {found} {kind} placeholders ({token}) but {len(counts)} {kind}s were given: give one {kind} for each, "
            f"in order, all prompts of the batch together."
        )
    remaining = iter(counts)
    grown = []
    for text in texts:
        first, *rest = text.split(token)
        grown.append(first + "".join(token * next(remaining) + part for part in rest))
    return grown


def patch_settings(preprocessor_config: dict) -> dict:
    """Arguments of `media.preprocess_images` from the content of a Hub preprocessor_config.json."""
    size = preprocessor_config.get("size") or {}
    older = {"min_pixels": size.get("shortest_edge"), "max_pixels": size.get("longest_edge")}
    names = [f.name for f in fields(PatchSettings)]
    given = {name: preprocessor_config[name] for name in names if preprocessor_config.get(name) is not None}
    return {**{name: value for name, value in older.items() if value}, **given}
