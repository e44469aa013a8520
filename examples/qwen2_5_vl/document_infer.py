"""Reads a page: blocks with their places on it, drawn onto the page, and the page as Markdown.

python examples/qwen2_5_vl/document_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file page.png --output page

Writes page.md and page.png. --answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer
from answers import spoken

from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.grounding import draw, parse_document, to_markdown
from paddlemix_qwenvl.media import load_image

PAGE = Path(__file__).parent / "inputs" / "page.png"


def main(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    image_file: Annotated[str, typer.Option("--image_file", help="path, address or data URI")] = str(PAGE),
    output: Annotated[Path, typer.Option("--output", help="without .md and .png")] = Path("output/page"),
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 2048,
    max_pixels: Annotated[int, typer.Option("--max_pixels")] = 512 * 28 * 28,
    answer_file: Annotated[Path | None, typer.Option("--answer_file")] = None,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl.engine.session import Assistant

    with terminal.plain_errors():
        assistant = Assistant.load(model_path)
        answer = assistant.ask("QwenVL HTML", [image_file], max_pixels=max_pixels, max_new_tokens=max_new_tokens)
        text = spoken(model_path, answer.text, answer_file)
        blocks = parse_document(text, answer.original_sizes[0], answer.resized_sizes[0])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".md").write_text(to_markdown(blocks), encoding="utf-8")
        draw(load_image(image_file), [block.as_item() for block in blocks if block.box]).save(
            output.with_suffix(".png")
        )


if __name__ == "__main__":
    typer.run(main)
