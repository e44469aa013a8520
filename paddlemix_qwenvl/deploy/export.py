"""Dynamic model to static graphs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import paddle
from paddle import nn

from paddlemix_qwenvl import ops
from paddlemix_qwenvl.deploy.graphs import LanguageGraph, VisionGraph
from paddlemix_qwenvl.deploy.manifest import Manifest
from paddlemix_qwenvl.errors import DeployError

VISION = "vision"
LANGUAGE = "language"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.json", "preprocessor_config.json")


def export(model, processor, folder: str | os.PathLike, say: Callable[[str], None] = print) -> Manifest:
    """Write both graphs, tokenizer, processor and manifest of a model.

    Args:
        model: `Qwen2_5_VLForConditionalGeneration`, loaded in the dtype that the graphs shall have.
        processor: its processor.
        folder: made; must not exist, or be an earlier export, which is replaced once the new one is whole.
        say: gets a line for each step.

    Raises:
        DeployError: the folder holds something else, or Paddle could not trace or write a graph.
    """
    with finished_folder(Path(folder)) as unfinished:
        say("exporting the vision graph")
        save_graph(VisionGraph(model.visual), unfinished / VISION)
        say("exporting the language graph")
        save_graph(LanguageGraph(model), unfinished / LANGUAGE)
        say("writing tokenizer, processor and manifest")
        processor.save_pretrained(str(unfinished))
        for path in unfinished.iterdir():
            if path.name not in TOKENIZER_FILES and path.stem not in (VISION, LANGUAGE):
                path.unlink()
        manifest = describe(model)
        manifest.write(unfinished)
    say(f"done: {folder}")
    return manifest


@contextlib.contextmanager
def finished_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the name `folder` only if nothing fails; otherwise nothing is left behind."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise DeployError(f"{folder} exists and is no export: give another folder, or remove it.")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def save_graph(graph: nn.Layer, path: Path) -> None:
    """Trace `graph` and write `path.json` and `path.pdiparams`.

    Raises:
        DeployError: Paddle could not.
    """
    graph.eval()
    try:
        with paddle.no_grad():
            static = paddle.jit.to_static(graph, input_spec=graph.input_spec(), full_graph=True)
            paddle.jit.save(static, str(path))
    except Exception as error:
        raise DeployError(f"Paddle {paddle.__version__} could not export {path.name}: {error}") from error
    if not path.with_suffix(".json").is_file():
        raise DeployError(f"Paddle {paddle.__version__} wrote no {path.name}.json: use Paddle 3.x.")


def describe(model) -> Manifest:
    """The manifest of a Qwen2.5-VL model, without checksums."""
    config, heads, defaults = model.config, model.decoder.heads, model.generation_config
    eos = defaults.eos_token_id if defaults.eos_token_id is not None else config.eos_token_id
    eos = [int(token) for token in (eos if isinstance(eos, list | tuple) else [eos]) if token is not None]
    pad = next((token for token in (defaults.pad_token_id, config.pad_token_id, *eos) if token is not None), 0)
    vision = config.vision_config
    return Manifest(
        family=config.model_type,
        dtype=str(model.get_input_embeddings().weight.dtype).rpartition(".")[2],
        paddle=paddle.__version__,
        compiled_ops=any(how.startswith("compiled") for how in ops.status().values()),
        cache={"layers": model.decoder.depth, "kv_heads": heads.num_kv_heads, "head_dim": heads.head_dim},
        tokens={
            "image": config.image_token_id,
            "video": config.video_token_id,
            "eos": eos,
            "pad": int(pad),
            "vocab_size": config.vocab_size,
        },
        vision={
            "window": vision.window_tokens,
            "merge": vision.spatial_merge_size,
            "tokens_per_second": vision.tokens_per_second,
            "hidden_size": config.hidden_size,
        },
        generation={
            name: getattr(defaults, name)
            for name in ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty")
            if getattr(defaults, name, None) is not None
        },
        context=config.max_position_embeddings,
    )
