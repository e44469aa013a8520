"""Reads a page: blocks with their places on it, drawn onto the page, and the page as Markdown.

python examples/qwen2_5_vl/document_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --image_file page.png --output page

Writes page.md and page.png. --answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl
from paddlemix_qwenvl.cli import plain_errors, quiet_hosts
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
    quiet_hosts()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    content = [{"type": "image", "image": image_file}, {"type": "text", "text": "QwenVL HTML"}]
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
        blocks = parse_document(answer, inputs["original_sizes"][0], inputs["resized_sizes"][0])
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".md").write_text(to_markdown(blocks), encoding="utf-8")
        draw(load_image(image_file), [block.as_item() for block in blocks if block.box]).save(
            output.with_suffix(".png")
        )


if __name__ == "__main__":
    typer.run(main)
