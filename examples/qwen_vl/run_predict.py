"""Describes a picture, answers a question about it and finds things in it, with Qwen-VL.

python examples/qwen_vl/run_predict.py --model_name_or_path qwen-vl/qwen-vl-7b --input_image picture.jpg \
    --question "What is on the table?" --find "the cup" --output_dir output

Without --input_image it takes the picture in examples/images; with --prompt it says just what the model makes of that.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl  # noqa: F401, teaches the Auto classes the model
from paddlemix_qwenvl.cli import plain_errors, quiet_hosts
from paddlemix_qwenvl.errors import GroundingError, PromptError

PICTURE = Path(__file__).parents[1] / "images" / "shapes.png"


def main(
    model_name_or_path: Annotated[
        str, typer.Option("--model_name_or_path", help="a name or a folder")
    ] = "qwen-vl/qwen-vl-7b",
    input_image: Annotated[str, typer.Option("--input_image", help="path or address")] = str(PICTURE),
    prompt: Annotated[str | None, typer.Option("--prompt", help="in place of the three tasks")] = None,
    question: Annotated[str, typer.Option("--question")] = "How many things are in the picture?",
    find: Annotated[str, typer.Option("--find", help="what to put boxes around")] = "the largest thing",
    output_dir: Annotated[Path, typer.Option("--output_dir", help="for pictures with boxes")] = Path("output"),
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 128,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32, float16 or bfloat16 (default: the model's)")
    ] = None,
    from_hf_hub: Annotated[bool, typer.Option("--from_hf_hub", help="not from PaddleNLP's storage")] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow_pickle", help="read .pdparams and .bin, if you trust them")
    ] = False,
) -> None:
    quiet_hosts()
    from paddlenlp.transformers import AutoModelForCausalLM, AutoProcessor

    prompts = {
        "caption": "Generate the caption in English with grounding:",
        "answer": f"Question: {question} Answer:",
        "boxes": f"<ref>{find}</ref>",
    }
    with plain_errors():
        processor = AutoProcessor.from_pretrained(model_name_or_path, from_hf_hub=from_hf_hub)
        source = {"from_hf_hub": from_hf_hub, "allow_pickle": allow_pickle}
        model = AutoModelForCausalLM.from_pretrained(model_name_or_path, dtype=dtype, **source)
        for task, words in {"prompt": prompt}.items() if prompt else prompts.items():
            inputs = processor(query=[{"image": input_image}, {"text": words}], return_tensors="pd")
            ids, _ = model.generate(**inputs, max_new_tokens=max_new_tokens)
            response = processor.batch_decode(ids)[0].removesuffix("<|endoftext|>").strip()
            print(f"{task}: {response}")
            shown = [(f"<img>{input_image}</img>", "")]
            said = f"{words}{response}" if task == "boxes" else response
            try:
                drawn = processor.tokenizer.draw_bbox_on_latest_picture(said, shown)
            except (GroundingError, PromptError) as error:  # a model may say anything
                print(f"  not drawn: {error}")
                continue
            if drawn is not None:
                output_dir.mkdir(parents=True, exist_ok=True)
                drawn.save(output_dir / f"{task}.png")
                print(f"  drawn in {output_dir / f'{task}.png'}")


if __name__ == "__main__":
    typer.run(main)
