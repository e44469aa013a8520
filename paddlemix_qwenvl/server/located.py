"""What an answer points at in the pictures of the request, and answers that are bound to point at something."""

from __future__ import annotations

from collections.abc import Mapping

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.grounding import parse, schema
from paddlemix_qwenvl.models.processor import Processor
from paddlemix_qwenvl.server.protocol_chat import (
    ActionsFormat,
    Conversation,
    GroundingItem,
    ImagePart,
    ShapesFormat,
    ShownPicture,
)

Sizes = Mapping[str, list]


def grounding(text: str, sizes: Sizes, processor: Processor, first: int) -> list[GroundingItem]:
    """The items of an answer, in pixels of the pictures as they were given; none without pictures.

    Args:
        sizes: `original_sizes` and `resized_sizes` of the pictures, as the processor returned them.
        first: from `first_shown`.
    """
    if not sizes.get("original_sizes"):
        return []
    return [
        {"kind": item.kind, "label": item.label, "coords": [*item.coords], "image": item.image}
        | ({"text": item.text} if item.text else {})
        for item in parse(text, sizes["original_sizes"], grids(sizes, processor), first)
    ]


def first_shown(body: Conversation) -> int:
    """Index of the first picture of the last message that shows any: what an answer means that names none."""
    contents = [message.content for message in body.messages if isinstance(message.content, list)]
    counts = [sum(isinstance(part, ImagePart) for part in content) for content in contents]
    return sum(counts[: max((i for i, count in enumerate(counts) if count), default=0)])


def pictures(sizes: Sizes, processor: Processor) -> list[ShownPicture]:
    """The pictures of the request, for those who read coordinates in the text of a stream before it ends."""
    both = zip(sizes.get("original_sizes", []), grids(sizes, processor), strict=True)
    return [{"size": [*size], "grid": [*grid]} for size, grid in both]


def grids(sizes: Sizes, processor: Processor) -> list[tuple[int, int]]:
    """(width, height) of what coordinates count on in each picture."""
    resized = sizes.get("resized_sizes", [])
    return [*resized] if processor.grid is None else [processor.grid] * len(resized)


def answer_schema(wanted: ShapesFormat | ActionsFormat, sizes: Sizes, processor: Processor) -> dict:
    """The JSON schema of such an answer about these pictures.

    Raises:
        PromptError: there are none.
    """
    found = grids(sizes, processor)
    if not found:
        raise PromptError(f"response_format {wanted.type} is about pictures: show one, or leave it out.")
    options = wanted.model_dump(exclude={"type"}, exclude_none=True)
    return schema(wanted.type, found, **options)
