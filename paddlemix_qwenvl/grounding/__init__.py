"""Answers as data: the text a model gives -> boxes, points, page blocks, screen actions and times, in the pixels and seconds
of what the user put in. Knows no model: it needs only the sizes that the processor returns."""

from .agents import Action, parse_actions, system_prompt
from .documents import Block, parse_document
from .drawing import draw
from .items import Item, parse
from .markdown import to_markdown
from .schema import schema
from .times import Segment, parse_times

__all__ = [
    "Action",
    "Block",
    "Item",
    "Segment",
    "draw",
    "parse",
    "parse_actions",
    "parse_document",
    "parse_times",
    "schema",
    "system_prompt",
    "to_markdown",
]
