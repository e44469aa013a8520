"""Describes a picture, answers a question about it and finds things in it, with Qwen-VL.

python examples/qwen_vl/run_predict.py --model_name_or_path qwen-vl/qwen-vl-7b --input_image picture.jpg \
    --question "What is on the table?" --find "the cup" --output_dir output

Without --input_image it takes the picture in examples/images; with --prompt it says just what the model makes of that.
"""

from pathlib import Path
from typing import Annotated

from typer import Option, run

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.errors import GroundingError, PromptError

PICTURE = Path(__file__).parents[1] / "images" / "shapes.png"
CAPTION = "Generate the caption in English with grounding:"


@options.grouped
def main(
    model_name_or_path: Annotated[str, Option("--model_name_or_path")] = "qwen-vl/qwen-vl-7b",
    input_image: Annotated[str, Option("--input_image", help="path or address")] = str(PICTURE),
    prompt: Annotated[str | None, Option("--prompt", help="in place of the three tasks")] = None,
    question: Annotated[str, Option("--question")] = "How many things are in the picture?",
    find: Annotated[str, Option("--find", help="what to put boxes around")] = "the largest thing",
    output_dir: Annotated[Path, Option("--output_dir", help="for pictures with boxes")] = Path("output"),
    max_new_tokens: Annotated[int, Option("--max_new_tokens")] = 128,
    *,
    loading: options.Loading,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl import QWenLMHeadModel, QWenVLProcessor

    prompts = {"caption": CAPTION, "answer": f"Question: {question} Answer:", "boxes": f"<ref>{find}</ref>"}
    with terminal.plain_errors():
        processor = QWenVLProcessor.from_pretrained(model_name_or_path, **loading.where())
        model = QWenLMHeadModel.from_pretrained(model_name_or_path, **loading.given())
        for task, words in {"prompt": prompt}.items() if prompt else prompts.items():
            inputs = processor(query=[{"image": input_image}, {"text": words}], return_tensors="pd")
            ids, _ = model.generate(**inputs, max_new_tokens=max_new_tokens)
            response = processor.batch_decode(ids)[0].removesuffix("<|endoftext|>").strip()
            print(f"{task}: {response}")
            said, shown = words * (task == "boxes") + response, [(f"<img>{input_image}</img>", "")]
            try:
                if (drawn := processor.tokenizer.draw_bbox_on_latest_picture(said, shown)) is not None:
                    output_dir.mkdir(parents=True, exist_ok=True)
                    drawn.save(path := output_dir / f"{task}.png")
                    print(f"  drawn in {path}")
            except (GroundingError, PromptError) as error:  # a model may say anything
                print(f"  not drawn: {error}")


if __name__ == "__main__":
    run(main)
