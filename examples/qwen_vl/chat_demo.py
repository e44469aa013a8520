"""A conversation with Qwen-VL-Chat about any number of pictures, in the terminal.

python examples/qwen_vl/chat_demo.py --model_name_or_path qwen-vl/qwen-vl-chat-7b

Pictures are put into a question as <img>path or address</img>; boxes in an answer are drawn into --output_dir. An empty
line or the end of the input ends the conversation.
"""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from typer import Option, run

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.errors import QwenVLError


@options.grouped
def main(
    model_name_or_path: Annotated[str, Option("--model_name_or_path")] = "qwen-vl/qwen-vl-chat-7b",
    image_file: Annotated[list[str] | None, Option("--image_file", help="shown first; may be given again")] = None,
    output_dir: Annotated[Path, Option("--output_dir", help="for pictures with boxes")] = Path("output"),
    max_new_tokens: Annotated[int, Option("--max_new_tokens")] = 512,
    *,
    loading: options.Loading,
) -> None:
    terminal.quiet()
    from paddlemix_qwenvl import QWenLMHeadModel, QWenVLTokenizer

    with terminal.plain_errors():
        tokenizer = QWenVLTokenizer.from_pretrained(model_name_or_path, **loading.where())
        model = QWenLMHeadModel.from_pretrained(model_name_or_path, **loading.given())
        shown = tokenizer.from_list_format([{"image": image} for image in image_file or []])
    history = []
    with suppress(EOFError):
        while words := input("you: ").strip():
            try:
                query, response = shown + words, ""
                print("model: ", end="", flush=True)
                for text in model.chat_stream(tokenizer, query, history, max_new_tokens=max_new_tokens):
                    print(text[len(response) :], end="", flush=True)
                    response = text
                print()
                history.append((query, response))
                shown = ""
                if (drawn := tokenizer.draw_bbox_on_latest_picture(response, history)) is not None:
                    output_dir.mkdir(parents=True, exist_ok=True)
                    drawn.save(path := output_dir / f"{len(history)}.png")
                    print(f"(drawn in {path})")
            except QwenVLError as error:
                print(f"error: {error}")


if __name__ == "__main__":
    run(main)
