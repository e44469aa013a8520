"""Asks what to do next on a screen. The answer comes as data in the real screen's pixels; nothing is ever carried out.

python examples/qwen2_5_vl/agent_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --screenshot screen.png \
    --tool mobile_use --task "Agree to meet at noon."

--answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl
from paddlemix_qwenvl.cli import plain_errors, quiet_hosts
from paddlemix_qwenvl.grounding import draw, parse_actions, system_prompt
from paddlemix_qwenvl.media import load_image

SCREEN = Path(__file__).parent / "inputs" / "screen.png"


def main(
    model_path: Annotated[str, typer.Option("--model_path", help="a name, a folder, or demo")] = "demo",
    screenshot: Annotated[str, typer.Option("--screenshot")] = str(SCREEN),
    tool: Annotated[str, typer.Option("--tool", help="mobile_use or computer_use")] = "mobile_use",
    task: Annotated[str, typer.Option("--task")] = "Agree to meet at noon.",
    output: Annotated[Path, typer.Option("--output")] = Path("output/screen.png"),
    max_new_tokens: Annotated[int, typer.Option("--max_new_tokens")] = 256,
    max_pixels: Annotated[int | None, typer.Option("--max_pixels", help="(default: the model's own)")] = None,
    answer_file: Annotated[Path | None, typer.Option("--answer_file")] = None,
) -> None:
    quiet_hosts()
    from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor

    with plain_errors():
        model = AutoModelForConditionalGeneration.from_pretrained(model_path)
        processor = AutoProcessor.from_pretrained(model_path)
        user = {"role": "user", "content": [{"type": "image", "image": screenshot}, {"type": "text", "text": task}]}
        pictures, _ = paddlemix_qwenvl.process_vision_info([user])
        sizes = processor.image_processor(pictures, max_pixels=max_pixels)
        (screen,), (resized,) = sizes["original_sizes"], sizes["resized_sizes"]
        messages = [{"role": "system", "content": system_prompt(tool, resized)}, user]
        text = processor.apply_chat_template(messages, add_generation_prompt=True)
        inputs = processor(text=[text], images=pictures, max_pixels=max_pixels, return_tensors="pd")
        ids, _ = model.generate(**inputs, max_new_tokens=max_new_tokens)
        answer = processor.batch_decode(ids, skip_special_tokens=True)[0]
        print(f"{model_path} answers: {answer}")
        if answer_file:
            answer = answer_file.read_text(encoding="utf-8")
            print(f"{answer_file.name} answers: {answer}")
        actions = parse_actions(answer, screen, resized)
        for action in actions:
            print(action.problem or f"{action.tool}: {action.name} {action.coordinate or ''}")
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(load_image(screenshot), [item for action in actions for item in action.as_items()]).save(output)


if __name__ == "__main__":
    typer.run(main)
