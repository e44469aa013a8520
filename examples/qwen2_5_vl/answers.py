"""What the scripts beside this one print of an answer."""

from pathlib import Path


def spoken(model_path: str, answer: str, answer_file: Path | None = None) -> str:
    """Print the model's answer; returns it, or what `answer_file` holds, to try the rest of a script without a large model."""
    print(f"{model_path} answers: {answer}")
    if answer_file is not None:
        answer = answer_file.read_text(encoding="utf-8")
        print(f"{answer_file.name} answers: {answer}")
    return answer
