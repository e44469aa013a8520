"""Writes a small Qwen-VL with random weights, to try the other scripts on while the real model is not at hand.

python examples/qwen_vl/random_model.py FOLDER

Every part of the real model is there, a tokenizer of single bytes too, so all of them run; the answers mean nothing.
"""

import base64
from pathlib import Path
from typing import Annotated

import typer

import paddlemix_qwenvl  # noqa: F401, prepares the process for Paddle
from paddlemix_qwenvl.commands import terminal

CONFIG = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "kv_channels": 64,
}
VISUAL = {"width": 128, "layers": 2, "heads": 4, "image_size": 224}


def main(folder: Annotated[Path, typer.Argument(help="made if it does not exist")]) -> None:
    terminal.quiet()
    import paddle

    from paddlemix_qwenvl import QWenLMHeadModel, QWenVLConfig, QWenVLTokenizer

    with terminal.plain_errors():
        folder.mkdir(parents=True, exist_ok=True)
        ranks = [base64.b64encode(bytes([value])) for value in range(256)]
        words = folder / "qwen.tiktoken"
        words.write_bytes(b"".join(b"%s %d\n" % (token, rank) for rank, token in enumerate(ranks)))
        tokenizer = QWenVLTokenizer(str(words))
        tokenizer.save_pretrained(str(folder))
        ends = {"eos_token_id": tokenizer.eod_id, "pad_token_id": tokenizer.eod_id}
        visual = {**VISUAL, "image_start_id": tokenizer.img_start_id}
        paddle.seed(0)
        model = QWenLMHeadModel(QWenVLConfig(**CONFIG, **ends, visual=visual, vocab_size=len(tokenizer), fp32=True))
        model.save_pretrained(folder)
    print(f"{folder}: a random model; give it to the other scripts as --model_name_or_path {folder}")


if __name__ == "__main__":
    typer.run(main)
