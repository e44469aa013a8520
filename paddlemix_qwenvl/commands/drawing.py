"""Pictures with an answer's boxes and points on them, as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from paddlemix_qwenvl.engine.session import Answer
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.files import whole_file
from paddlemix_qwenvl.grounding import draw, parse
from paddlemix_qwenvl.media import load_image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def check_drawing(path: str, images: Sequence) -> None:
    """Raises ConfigurationError where the file's ending is no picture's, or there is no picture to draw on."""
    if os.path.splitext(path)[1].lower() not in ENDINGS:
        raise ConfigurationError(f"{path} cannot be written as a picture: give a name that ends in .png or .jpg.")
    if not images:
        raise ConfigurationError(f"there is no picture to draw on for {path}: show one, too.")


def draw_answer(answer: Answer, images: Sequence, path: str) -> list[str]:
    """Write the pictures with what the answer points at drawn on them; returns a line on each: the file, and what is in it.

    Args:
        images: the last ones that the model was shown, one or more; they are drawn on in their own size, not in the model's.
        path: of the file; with several pictures `name.png` becomes `name-1.png`, `name-2.png`, ...

    Raises:
        ConfigurationError: as `check_drawing`.
    """
    check_drawing(path, images)
    stem, ending = os.path.splitext(path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sizes = (answer.sizes[name][-len(images) :] for name in ("original_sizes", "resized_sizes"))
    items, lines = parse(answer.text, *sizes), []
    for number, image in enumerate(images):
        here = [item for item in items if item.image == number]
        name = path if len(images) == 1 else f"{stem}-{number + 1}{ending}"
        with whole_file(name) as unfinished:
            draw(load_image(image), here).save(unfinished)
        found = ", ".join(f"{item.label or item.kind} {[round(value) for value in item.coords]}" for item in here)
        lines.append(f"{name}: {found or 'the answer points at nothing in this picture'}")
    return lines
