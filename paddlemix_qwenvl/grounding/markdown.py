"""Blocks of a page as Markdown."""

import re
from collections.abc import Sequence

from .documents import Block, Rows

_FENCES = {"code": "", "music": "abc", "chemistry": "smiles"}


def to_markdown(blocks: Sequence[Block]) -> str:
    """The page in Markdown: headings, lists, pipe tables, `$$` formulas, fenced code, `abc` and `smiles`, captions of
    images. A chart is the table it shows. Ends with a line end; an empty page gives ""."""
    pieces: list[str] = []
    previous = None
    for block in blocks:
        if previous is not None:
            pieces.append("\n" if previous.type == block.type == "list_item" else "\n\n")
        pieces.append(_block(block))
        previous = block
    return "".join([*pieces, "\n"]) if pieces else ""


def _block(block: Block) -> str:
    if block.rows:
        return _table(block.rows)
    if block.type in _FENCES and block.text:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", block.text)), default=0))
        return f"{fence}{_FENCES[block.type]}\n{block.text}\n{fence}"
    line = block.text.replace("\n", " ")
    if block.type == "heading":
        return f"{'#' * block.level} {line}"
    if block.type == "list_item":
        return f"{block.level}. {line}" if block.level else f"- {line}"
    if block.type == "formula":
        return f"$$\n{block.text}\n$$"
    if block.type == "image":
        return f"![{line.replace('[', '(').replace(']', ')')}]()"
    return block.text.replace("\n", "  \n")


def _table(rows: Rows) -> str:
    lines = ["| " + " | ".join(_cell(text) for text in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
