"""Asks several questions at once, each about an image of its own; the answers come as they are said.

python examples/qwen2_5_vl/batch_infer.py --model_path Qwen/Qwen2.5-VL-3B-Instruct \
    --image_file one.jpg --question "How many people are there?" --image_file two.jpg --question "What does the sign say?"

A row that has ended leaves the batch. Every row says what it would say alone.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl
from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.engine.streaming import BatchStreamer

INPUTS = Path(__file__).parent / "inputs"
ASKED = {"one.png": "What do you see?", "two.png": "How many circles are there?", "turned.jpg": "Locate the blue star."}


def main(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    image_file: Annotated[list[str] | None, typer.Option("--image_file", help="again for further images")] = None,
    question: Annotated[list[str] | None, typer.Option("--question", help="as many as images")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 128,
) -> None:
    terminal.quiet()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    images = image_file or [str(INPUTS / name) for name in ASKED]
    questions = question or [*ASKED.values()]
    conversations = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": asked}]}]
        for image, asked in zip(images, questions, strict=True)
    ]
    with terminal.plain_errors():
        model = AutoModelForConditionalGeneration.from_pretrained(model_path)
        processor = AutoProcessor.from_pretrained(model_path)
        texts = processor.apply_chat_template(conversations, add_generation_prompt=True)
        pictures, _ = paddlemix_qwenvl.process_vision_info(conversations)
        inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pd")
        streamer = BatchStreamer(processor.tokenizer, lambda row, piece: print(f"{row}: {piece!r}"))
        ids, _ = model.generate(**inputs, streamer=streamer, max_new_tokens=max_new_tokens)
        for image, asked, answer in zip(images, questions, processor.post_process(ids), strict=True):
            print(f"{Path(image).name}: {asked}\n  {answer}")


if __name__ == "__main__":
    typer.run(main)
