"""Dynamic model to static graphs."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import paddle
from paddle import nn

from paddlemix_qwenvl import hub, ops
from paddlemix_qwenvl.dtypes import DTYPES, QUANTIZATIONS
from paddlemix_qwenvl.errors import ConfigurationError, DeployError
from paddlemix_qwenvl.files import replace_folder
from paddlemix_qwenvl.layers.formats import Int8
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.family import Family, family_of_config
from paddlemix_qwenvl.models.generation_config import write_generation_config
from paddlemix_qwenvl.parallel import TensorParallel, tensor_parallel
from paddlemix_qwenvl.static.graphs import LanguageGraph
from paddlemix_qwenvl.static.manifest import LANGUAGE, NAME, PARTS, VISION, Manifest, graph_name, short_name


def load(name: str, dtype: str | None = None, model_type: str | None = None, **source):
    """Model and processor to export.

    Args:
        name: a folder, or a name as in `from_pretrained`.
        dtype: of `DTYPES` or `QUANTIZATIONS`, None for the model's own, of which
            quantised weights are made and which the KV cache keeps.
        model_type: what the model must be, as PaddleNLP's export calls it: that of config.json and "-img2txt"; None for any.
        source: where a name is looked up (`from_hf_hub=True`, ...).

    Raises:
        ConfigurationError: another dtype, or a model of another kind; known from its config, before any weights are read.
        CheckpointError, DownloadError: weights that cannot be had.
    """
    if dtype not in (None, *DTYPES, *QUANTIZATIONS):
        known = ", ".join((*DTYPES, *QUANTIZATIONS))
        raise ConfigurationError(f"dtype is {dtype!r}: it must be one of {known}.")
    name = hub.locate(name)
    family = find_family(name, **source)
    if model_type not in (None, f"{family.model_type}-img2txt"):
        raise ConfigurationError(
            f"model_type is {model_type!r}, but {name} is of {family.model_type!r}: give {family.model_type}-img2txt."
        )
    weights = {"quantization": dtype} if dtype in QUANTIZATIONS else {"dtype": dtype}
    model = family.load("model").from_pretrained(name, allow_pickle=True, **weights, **source)
    return model, family.load("processor").from_pretrained(name, **source)


def export(
    model,
    processor,
    folder: str | os.PathLike,
    parts: tuple[str, ...] = PARTS,
    name: str = "",
    say: Callable[[str], None] = print,
) -> Manifest:
    """Write graphs, tokenizer, processor, configs and manifest of a model; with several ranks, a graph a rank.

    Args:
        model: of any family, loaded in the dtype that the graphs shall have.
        processor: its processor.
        folder: made; must not exist, be empty, or be an earlier export (with no folder in it), which is replaced once the new
            one is whole.
        parts: "vision", "language", or both.
        name: what the model is called, for the manifest.
        say: gets a line for each step.

    Raises:
        DeployError: the folder holds something else, or Paddle could not trace or write a graph.
        ParallelError: another rank failed.
    """
    family = family_of_config(model.config)
    parallel = tensor_parallel()
    say = say if parallel.rank == 0 else _silent
    manifest = describe(model, family, parts, name)
    with finished_folder(Path(folder), parallel, manifest, say) as unfinished:
        for part, graph in ((VISION, family.module("vision").VisionGraph), (LANGUAGE, LanguageGraph)):
            if part in parts:
                say(f"exporting the {part} graph")
                save_graph(graph(model), unfinished / graph_name(part, parallel.rank, parallel.degree))
        if parallel.rank == 0:
            say("writing tokenizer, processor and configs")
            save_files(model, processor, unfinished)
    say(f"done: {folder}")
    return manifest


def _silent(line: str) -> None:
    """The ranks beside the first one."""


@contextlib.contextmanager
def finished_folder(
    folder: Path, parallel: TensorParallel, manifest: Manifest, say: Callable[[str], None]
) -> Iterator[Path]:
    """A folder to write into that gets `manifest` and the name `folder` if no rank fails; otherwise nothing is left behind."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    if folder.is_file() or (inside and not (folder / NAME).is_file()) or any(path.is_dir() for path in inside):
        raise DeployError(f"{folder} exists and is no export, or holds others: give another folder, or remove it.")
    first = _count(parallel, 0 if parallel.rank else os.getpid())  # so that two exports into one folder do not meet
    unfinished = folder.absolute().with_name(f".unfinished-{folder.absolute().name}-{first}")
    if parallel.rank == 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
    failed = True
    try:
        _count(parallel, 0)  # the folder is there
        try:
            yield unfinished
            failed = False
        finally:
            others = _count(parallel, int(failed))
        if others:
            raise DeployError(f"{others} of {parallel.degree} ranks could not export: their own messages say why.")
        if parallel.rank == 0:
            say("writing the manifest")
            manifest.write(unfinished)
            replace_folder(folder.absolute(), unfinished)
    finally:
        if parallel.rank == 0:
            shutil.rmtree(unfinished, ignore_errors=True)


def _count(parallel: TensorParallel, number: int) -> int:
    """The sum of the ranks' numbers, once all are there."""
    return number if parallel.degree == 1 else int(parallel.all_reduce(paddle.to_tensor([number])))


def save_graph(graph: nn.Layer, path: Path) -> None:
    """Trace `graph` and write `path.json` and `path.pdiparams`.

    Raises:
        DeployError: Paddle could not.
    """
    graph.eval()
    ops.status()  # which tries the GPU's operations
    try:
        with paddle.no_grad():
            static = paddle.jit.to_static(graph, input_spec=graph.input_spec(), full_graph=True)
            paddle.jit.save(static, str(path))
    except Exception as error:
        raise DeployError(f"Paddle {paddle.__version__} could not export {path.name}: {error}") from error
    finally:
        if hasattr(graph, "forward") and hasattr(graph.forward, "rollback"):
            graph.forward.rollback()
    if not path.with_suffix(".json").is_file():
        raise DeployError(f"Paddle {paddle.__version__} wrote no {path.name}.json: use Paddle 3.x.")


def save_files(model, processor, folder: Path) -> None:
    """What belongs to a model beside its graphs."""
    processor.save_pretrained(str(folder))
    model.config.save_pretrained(folder)
    write_generation_config(model.generation_config, folder)


def describe(model, family: Family, parts: tuple[str, ...], name: str) -> Manifest:
    """The manifest of a model, without what is known only once the graphs are written."""
    config, cache, defaults = model.config, model.cache_sizes(), model.generation_config.to_diff_dict()
    eos = defaults.get("eos_token_id", config.eos_token_id)
    eos = [int(token) for token in (eos if isinstance(eos, list | tuple) else [eos]) if token is not None]
    pad = next((token for token in (defaults.get("pad_token_id"), config.pad_token_id, *eos) if token is not None), 0)
    formats, capability = model.formats(), None
    if Int8(arranged=True) in formats:
        capability = "{}.{}".format(*paddle.device.cuda.get_device_capability())
    return Manifest(
        family=family.name,
        model=short_name(name),
        parts=list(parts),
        degree=tensor_parallel().degree,
        dtype=next((format.name for format in formats if format.name), cache["dtype"]),
        device=paddle.device.get_device().partition(":")[0],
        versions={"paddle": paddle.__version__, "paddlemix_qwenvl": version("paddlemix_qwenvl")},
        cache=cache,
        tokens={"eos": eos, "pad": int(pad), "vocab_size": config.vocab_size},
        vision=config.to_dict()[config.vision_part],
        hidden_size=config.hidden_size,
        context=config.max_position_embeddings,
        capability=capability,
    )
