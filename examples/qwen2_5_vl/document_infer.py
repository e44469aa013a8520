"""Reads a page: blocks with their places on it, drawn onto the page, and the page as Markdown.

python examples/qwen2_5_vl/document_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file page.png --output page

Writes page.md and page.png. --answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer
from answers import Options

from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.commands.options import grouped, with_defaults
from paddlemix_qwenvl.grounding import draw, parse_document, to_markdown
from paddlemix_qwenvl.media import load_image

PAGE = Path(__file__).parent / "inputs" / "page.png"


@grouped
def main(
    image_file: Annotated[str, typer.Option("--image_file", help="path, address or data URI")] = str(PAGE),
    output: Annotated[Path, typer.Option("--output", help="without .md and .png")] = Path("output/page"),
    *,
    options: Options,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl.engine.session import Assistant

    with terminal.plain_errors():
        assistant = Assistant.load(options.model_path)
        answer = assistant.ask("QwenVL HTML", [image_file], **options.settings())
        text = options.spoken(answer.text)
        (page,), (resized,) = answer.sizes["original_sizes"], answer.sizes["resized_sizes"]
        blocks = parse_document(text, page, resized)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".md").write_text(to_markdown(blocks), encoding="utf-8")
        draw(load_image(image_file), [block.as_item() for block in blocks if block.box]).save(
            output.with_suffix(".png")
        )


if __name__ == "__main__":
    typer.run(with_defaults(main, max_new_tokens=2048, max_pixels=512 * 28 * 28))
