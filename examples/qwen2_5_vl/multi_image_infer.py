"""Asks one question about several images.

python examples/qwen2_5_vl/multi_image_infer.py --model_path Qwen/Qwen2.5-VL-3B-Instruct \
    --image_file one.jpg --image_file two.jpg --question "What is different in the second image?"

With --number the model reads "Picture 1:", "Picture 2:" before the images, so that question and answer can name them.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl
from paddlemix_qwenvl.commands import terminal

INPUTS = Path(__file__).parent / "inputs"


def main(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    image_file: Annotated[list[str] | None, typer.Option("--image_file", help="again for further images")] = None,
    question: Annotated[str, typer.Option("--question")] = "Which image has more stars?",
    number: Annotated[bool, typer.Option("--number", help="as Picture 1, Picture 2, ...")] = False,
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 128,
) -> None:
    terminal.quiet()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    images = image_file or [str(INPUTS / "one.png"), str(INPUTS / "two.png")]
    pictures = [{"type": "image", "image": image} for image in images]
    messages = [{"role": "user", "content": [*pictures, {"type": "text", "text": question}]}]
    with terminal.plain_errors():
        model = AutoModelForConditionalGeneration.from_pretrained(model_path)
        processor = AutoProcessor.from_pretrained(model_path)
        text = processor.apply_chat_template(messages, add_generation_prompt=True, add_vision_id=number)
        pictures, _ = paddlemix_qwenvl.process_vision_info(messages)
        inputs = processor(text=[text], images=pictures, return_tensors="pd")
        ids, _ = model.generate(**inputs, max_new_tokens=max_new_tokens)
        print(processor.post_process(ids)[0])


if __name__ == "__main__":
    typer.run(main)
