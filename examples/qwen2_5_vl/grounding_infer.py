"""Asks where something is and draws the boxes and points of the answer onto the image, in its own pixels.

python examples/qwen2_5_vl/grounding_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file picture.jpg \
    --question "Locate every person in the image, output their bbox coordinates using JSON format." --output boxes.png

The default image is one that its EXIF data turn. --answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer
from answers import Options

from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.commands.options import grouped
from paddlemix_qwenvl.grounding import draw, parse
from paddlemix_qwenvl.media import load_image

IMAGE = Path(__file__).parent / "inputs" / "turned.jpg"


@grouped
def main(
    image_file: Annotated[str, typer.Option("--image_file", help="path, address or data URI")] = str(IMAGE),
    question: Annotated[str, typer.Option("--question")] = "Locate all shapes.",
    output: Annotated[Path, typer.Option("--output")] = Path("output/grounding.png"),
    font: Annotated[str | None, typer.Option("--font", help="of the labels (default: one that has them)")] = None,
    *,
    options: Options,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl.engine.session import Assistant

    with terminal.plain_errors():
        assistant = Assistant.load(options.model_path)
        answer = assistant.ask(question, [image_file], **options.settings())
        text = options.spoken(answer.text)
        items = parse(text, answer.sizes["original_sizes"], answer.sizes["resized_sizes"])
        for item in items:
            print(item.kind, item.label, item.coords)
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(load_image(image_file), items, font).save(output)


if __name__ == "__main__":
    typer.run(main)
