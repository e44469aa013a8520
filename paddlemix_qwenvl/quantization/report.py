"""What quantising lost: a table as JSON and Markdown, and a plot."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from paddlemix_qwenvl.files import whole_file, write_json, write_text

NAME = "quantization_report"
SIZE, EDGE, LEGEND = (960, 480), 60, 150
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")


@dataclass(frozen=True)
class Likeness:
    """Logits of the quantised model beside those of the model that it was made of.

    Attributes:
        tokens: of answers, how many were compared.
        cosine: mean over the tokens.
        least_cosine: of the token that is least alike.
        same_token: share of the tokens of which the likeliest is the same.
    """

    tokens: int
    cosine: float
    least_cosine: float
    same_token: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> Likeness:
        """Of logits `[tokens, vocab]`."""
        before, after = before.astype(np.float64), after.astype(np.float64)
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosines = (before * after).sum(1) / np.maximum(lengths, 1e-300)
        same = (before.argmax(1) == after.argmax(1)).mean()
        return cls(len(before), float(cosines.mean()), float(cosines.min()), float(same))


@dataclass(frozen=True)
class Report:
    """The relative Frobenius error of each weight, and how like the models are if that was tried."""

    title: str
    errors: dict[str, float]
    likeness: Likeness | None = None

    def table(self) -> tuple[list[str], list[list[float]]]:
        """Names of the columns, which are the modules of a block, and the errors of each block, NaN for none."""
        parts = [_parts(name) for name in self.errors]
        columns = list(dict.fromkeys(column for _, column in parts))
        rows = np.full([max(block for block, _ in parts) + 1, len(columns)], np.nan)
        for (block, column), error in zip(parts, self.errors.values(), strict=True):
            rows[block, columns.index(column)] = error
        return columns, rows.tolist()

    def lines(self) -> list[str]:
        """Markdown."""
        columns, rows = self.table()
        found = [f"# {self.title}", "", "Relative error of each weight: the norm of the difference by the norm.", ""]
        found += [f"| block | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        found += [f"| {block} | {' | '.join(f'{error:.4f}' for error in row)} |" for block, row in enumerate(rows)]
        found += [f"| all | {' | '.join(f'{error:.4f}' for error in np.nanmean(rows, axis=0))} |"]
        if like := self.likeness:
            found += [
                "",
                f"Logits of {like.tokens} tokens of answers beside those of the model before: cosine {like.cosine:.5f}",
            ]
            found[-1] += f" (least {like.least_cosine:.5f}), the likeliest token the same in {like.same_token:.1%}."
        return found

    def write(self, folder: Path) -> None:
        """As JSON, Markdown and PNG."""
        write_json(folder / f"{NAME}.json", asdict(self))
        write_text(folder / f"{NAME}.md", "\n".join(self.lines()) + "\n")
        with whole_file(folder / f"{NAME}.png") as unfinished:
            self.plot().save(unfinished)

    def plot(self) -> Image.Image:
        """A line for each column of the table over the blocks."""
        columns, rows = self.table()
        errors = np.array(rows)
        picture = Image.new("RGB", SIZE, "white")
        draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
        right, bottom = SIZE[0] - LEGEND, SIZE[1] - EDGE
        top = float(np.nanmax(errors)) * 1.1 or 1.0
        for step in range(6):
            y = bottom - (bottom - EDGE) * step / 5
            draw.line([EDGE, y, right, y], "#dddddd")
            draw.text((EDGE - 8, y), f"{top * step / 5:.3f}", "black", font, anchor="rm")
        across = [EDGE + (right - EDGE) * (block + 0.5) / len(rows) for block in range(len(rows))]
        for block in range(0, len(rows), -(-len(rows) // 16)):
            draw.text((across[block], bottom + 8), str(block), "black", font, anchor="mt")
        for number, column in enumerate(columns):
            colour = COLOURS[number % len(COLOURS)]
            points = [
                (x, bottom - (bottom - EDGE) * y / top)
                for x, y in zip(across, errors[:, number], strict=True)
                if np.isfinite(y)
            ]
            draw.line(points, colour, 2)
            for x, y in points:
                draw.ellipse([x - 3, y - 3, x + 3, y + 3], colour)
            draw.text((right + 12, EDGE + 22 * number), column, colour, font)
        draw.text(
            (EDGE, EDGE // 2), f"{self.title}: relative error of the weights by block", "black", font, anchor="lm"
        )
        return picture


def _parts(module: str) -> tuple[int, str]:
    """The number of a module's block, and its name in there."""
    _, number, column = re.split(r"\.(\d+)\.", module, maxsplit=1)
    return int(number), column
