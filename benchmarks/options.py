"""Options that the comparisons share, each declared once."""

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from typer import Option

THREADS = len(os.sched_getaffinity(0))


class DType(str, Enum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    int8 = "int8"
    int4 = "int4"

    @property
    def width(self) -> float:
        """Bytes of a weight."""
        return {"float32": 4, "bfloat16": 2, "int8": 1, "int4": 0.5}[self.value]

    def given(self) -> dict[str, str]:
        """Arguments of a model's `from_pretrained`."""
        return (
            {"dtype": "bfloat16", "quantization": self.value} if self.value.startswith("int") else {"dtype": self.value}
        )


Layers = Annotated[int, Option("--layers", help="language layers")]
VisionBlocks = Annotated[int, Option("--vision_blocks", help="of the checkpoint")]
NewTokens = Annotated[int, Option("--new_tokens")]
Threads = Annotated[int, Option("--threads")]
Repeats = Annotated[int, Option("--repeats", min=1, help="beside a first one that does not count")]
Rounds = Annotated[int, Option("--rounds", min=1, help="of a process of each engine, by turns")]
Checkpoint = Annotated[Path | None, Option("--checkpoint", help="made there, and kept for the next run")]
Dtypes = Annotated[list[DType], Option("--dtype", help="of the weights; may be given several times")]


@dataclass
class Model:
    """The random checkpoint, and how it is loaded and asked."""

    dtypes: Dtypes = (DType.bfloat16, DType.int8)
    layers: Layers = 12
    vision_blocks: VisionBlocks = 8
    repeats: Repeats = 3
    checkpoint: Checkpoint = None


@dataclass
class Work:
    """What is compared with another engine, and how often."""

    layers: Layers = 12
    vision_blocks: VisionBlocks = 8
    new_tokens: NewTokens = 32
    threads: Threads = THREADS
    repeats: Repeats = 3
    checkpoint: Checkpoint = None

    def given(self) -> list[str]:
        """Arguments of an engine's script."""
        return [str(self.threads), str(self.new_tokens), str(self.repeats)]
