"""What the scripts beside this one share: a few options, and what is printed of an answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option


@dataclass
class Options:
    """Options of each script."""

    model_path: Annotated[str, Option("--model_path", help="a name, a folder, or demo")] = "demo"
    max_pixels: Annotated[int | None, Option("--max_pixels", help="(default: the model's own)")] = None
    max_new_tokens: Annotated[int, Option("--max_new_tokens")] = 256
    answer_file: Annotated[
        Path | None, Option("--answer_file", help="holds an answer to take in place of the model's")
    ] = None

    def settings(self) -> dict:
        """Settings of an answer."""
        return {"max_pixels": self.max_pixels, "max_new_tokens": self.max_new_tokens}

    def spoken(self, answer: str) -> str:
        """Print the model's answer; returns it, or what `answer_file` holds, to try the rest of a script without a large model."""
        print(f"{self.model_path} answers: {answer}")
        if self.answer_file is not None:
            answer = self.answer_file.read_text(encoding="utf-8")
            print(f"{self.answer_file.name} answers: {answer}")
        return answer
