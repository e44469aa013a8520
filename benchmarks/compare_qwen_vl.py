"""This package and Qwen-VL's original PyTorch code on the same random checkpoint, inputs and threads, in one go.

    python benchmarks/compare_qwen_vl.py --code FOLDER --peer_python PYTHON [--dtype bfloat16] [--layers 4] [--threads 2]

FOLDER holds modeling_qwen.py and its neighbours (Hub: Qwen/Qwen-VL-Chat), PYTHON is an interpreter with the packages of
tests/reference/qwen_vl/requirements.txt. Widths are the 7B's. Each round has a process of each engine, by turns; the
first of a process's repeats does not count.
"""

import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import options
import typer
from compare import cpu_name, make_once, run
from options import DType
from turns import in_rounds, print_both

from paddlemix_qwenvl.commands.options import grouped, with_defaults


@grouped
def main(
    code: Annotated[Path, typer.Option("--code", help="folder with modeling_qwen.py")],
    peer_python: Annotated[Path, typer.Option("--peer_python", help="has transformers 4.37.2 and torch")],
    dtype: Annotated[DType, typer.Option("--dtype", help="of both")] = DType.float32,
    vocab_size: Annotated[int, typer.Option("--vocab_size", help="less for machines with little memory")] = 151936,
    text_tokens: Annotated[int, typer.Option("--text_tokens", help="beside the picture's 258")] = 64,
    rounds: options.Rounds = 5,
    *,
    work: options.Work,
) -> None:
    config = config_7b(work.layers, work.vision_blocks, vocab_size)
    with tempfile.TemporaryDirectory() as scratch:
        folder = work.checkpoint or Path(scratch) / "checkpoint"
        count = make_once(folder, config, hub_shapes(config))
        inputs = Path(scratch) / "inputs.npz"
        prompt = write_inputs(inputs, config, text_tokens)
        given = [str(folder), str(inputs), dtype.value, *work.given()]
        original = [str(code.resolve()), *given]
        sides = [partial(run, "run_ours.py", sys.executable, given)]
        sides += [partial(run, "run_qwen_vl_original.py", str(peer_python), original)]
        ours, peer = in_rounds(dict(enumerate(sides)), rounds).values()
    print(f"\n{count / 1e9:.2f} B parameters, one 448 x 448 image, prompt of {prompt} tokens, {work.new_tokens} new")
    print(f"{cpu_name()}, {work.threads} threads, {rounds} rounds by turns, {dtype.value}")
    print_both(ours, peer, "original")


def config_7b(layers: int, vision_blocks: int, vocab_size: int) -> dict:
    """The released model's config.json with fewer layers and blocks."""
    from paddlemix_qwenvl.models.qwen_vl.config import Language, Visual

    visual = {**asdict(Visual()), "layers": vision_blocks, "image_start_id": vocab_size - 79}
    language = {**asdict(Language()), "num_hidden_layers": layers, "vocab_size": vocab_size}
    ends = {"eos_token_id": vocab_size - 293, "pad_token_id": vocab_size - 293}
    return {
        "model_type": "qwen",
        "architectures": ["QWenLMHeadModel"],
        **language,
        **ends,
        "visual": visual,
        "use_flash_attn": False,
    }


def hub_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint."""
    from paddlemix_qwenvl import QWenLMHeadModel, QWenVLConfig
    from paddlemix_qwenvl.layers.parameter import pieces_of

    model = QWenLMHeadModel.without_memory(QWenVLConfig(**config), "bfloat16")
    return {
        piece.name(path): piece.shape for path, parameter in model.named_parameters() for piece in pieces_of(parameter)
    }


def write_inputs(path: Path, config: dict, text_tokens: int) -> int:
    """A random picture and random words around it, as our processor would hand them over; returns the prompt's length."""
    generator = np.random.default_rng(0)
    start, side = config["visual"]["image_start_id"], config["visual"]["image_size"]
    words = generator.integers(1000, start - 1000, text_tokens)
    slot = [start, ord("p"), *[start + 2] * (config["visual"]["n_queries"] - 1), start + 1]
    ids = np.concatenate([words[: text_tokens // 2], slot, words[text_tokens // 2 :]]).astype(np.int64)[None]
    images = generator.standard_normal((1, 3, side, side), np.float32)
    np.savez(path, input_ids=ids, attention_mask=np.ones_like(ids), images=images)
    return ids.shape[1]


if __name__ == "__main__":
    typer.run(with_defaults(main, layers=4, vision_blocks=4, new_tokens=16, repeats=1))
