"""Asks where something is and draws the boxes and points of the answer onto the image, in its own pixels.

python examples/qwen2_5_vl/grounding_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file picture.jpg \
    --question "Locate every person in the image, output their bbox coordinates using JSON format." --output boxes.png

The default image is one that its EXIF data turn. --answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl
from paddlemix_qwenvl.cli import plain_errors, quiet_hosts
from paddlemix_qwenvl.grounding import draw, parse
from paddlemix_qwenvl.media import load_image

IMAGE = Path(__file__).parent / "inputs" / "turned.jpg"


def main(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    image_file: Annotated[str, typer.Option("--image_file", help="path, address or data URI")] = str(IMAGE),
    question: Annotated[str, typer.Option("--question")] = "Locate all shapes.",
    output: Annotated[Path, typer.Option("--output")] = Path("output/grounding.png"),
    font: Annotated[str | None, typer.Option("--font", help="of the labels (default: one that has them)")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 256,
    max_pixels: Annotated[int | None, typer.Option("--max_pixels", help="(default: the model's own)")] = None,
    answer_file: Annotated[Path | None, typer.Option("--answer_file")] = None,
) -> None:
    quiet_hosts()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    content = [{"type": "image", "image": image_file}, {"type": "text", "text": question}]
    messages = [{"role": "user", "content": content}]
    with plain_errors():
        model = AutoModelForConditionalGeneration.from_pretrained(model_path)
        processor = AutoProcessor.from_pretrained(model_path)
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        pictures, _ = paddlemix_qwenvl.process_vision_info(messages)
        inputs = processor(text=[text], images=pictures, max_pixels=max_pixels, return_tensors="pd")
        ids, _ = model.generate(**inputs, max_new_tokens=max_new_tokens)
        answer = processor.batch_decode(ids, skip_special_tokens=True)[0]
        print(f"{model_path} answers: {answer}")
        if answer_file:
            answer = answer_file.read_text(encoding="utf-8")
            print(f"{answer_file.name} answers: {answer}")
        items = parse(answer, inputs["original_sizes"], inputs["resized_sizes"])
        for item in items:
            print(item.kind, item.label, item.coords)
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(load_image(image_file), items, font).save(output)


if __name__ == "__main__":
    typer.run(main)
