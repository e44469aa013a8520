"""Asks what to do next on a screen. The answer comes as data in the real screen's pixels; nothing is ever carried out.

python examples/qwen2_5_vl/agent_infer.py --model_path Qwen/Qwen2.5-VL-7B-Instruct --screenshot screen.png \
    --tool mobile_use --task "Agree to meet at noon."

--answer_file takes an answer from a file in place of the model's.
"""

from pathlib import Path
from typing import Annotated

import typer
from answers import Options

from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.commands.options import grouped
from paddlemix_qwenvl.grounding import draw, parse_actions, system_prompt
from paddlemix_qwenvl.media import load_image, process_vision_info

SCREEN = Path(__file__).parent / "inputs" / "screen.png"


@grouped
def main(
    screenshot: Annotated[str, typer.Option("--screenshot")] = str(SCREEN),
    tool: Annotated[str, typer.Option("--tool", help="mobile_use or computer_use")] = "mobile_use",
    task: Annotated[str, typer.Option("--task")] = "Agree to meet at noon.",
    output: Annotated[Path, typer.Option("--output")] = Path("output/screen.png"),
    *,
    options: Options,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl.engine.session import Assistant
    from paddlemix_qwenvl.models.conversations import question_about

    with terminal.plain_errors():
        assistant = Assistant.load(options.model_path)
        user = question_about(task, [screenshot])
        pictures, _ = process_vision_info([user])
        sizes = assistant.processor.image_processor(pictures, max_pixels=options.max_pixels)
        (screen,), (resized,) = sizes["original_sizes"], sizes["resized_sizes"]
        messages = [{"role": "system", "content": system_prompt(tool, resized)}, user]
        answer = assistant.answer(messages, **options.settings())
        actions = parse_actions(options.spoken(answer.text), screen, resized)
        for action in actions:
            print(action.problem or f"{action.tool}: {action.name} {action.coordinate or ''}")
        output.parent.mkdir(parents=True, exist_ok=True)
        draw(load_image(screenshot), [item for action in actions for item in action.as_items()]).save(output)


if __name__ == "__main__":
    typer.run(main)
