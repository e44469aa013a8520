"""The model that is quantised: its folder, its weights as they lie there, and which of them are converted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import Piece, whole
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.family import Family
from paddlemix_qwenvl.models.loading import check_blocks, loading_dtype, weights_folder
from paddlemix_qwenvl.weights.casts import cast
from paddlemix_qwenvl.weights.checkpoint import WEIGHTS, Checkpoint, open_folder
from paddlemix_qwenvl.weights.loading import name_faults, named_pieces, optional_names


@dataclass(frozen=True)
class Source:
    """A model in a local folder, quantised or not.

    Attributes:
        name: of the folder, or what the model was downloaded by.
        where: a name is looked up, as in `from_pretrained`.
        dtype: of its weights.
        pieces: its tensors by their Hub names.
        modules: Hub names of the Linear modules in the language model's blocks.
    """

    name: str
    where: dict[str, Any]
    folder: Path
    family: Family
    config: Any
    dtype: str
    checkpoint: Checkpoint
    pieces: dict[str, Piece]
    modules: frozenset[str]

    @classmethod
    def open(cls, name: str | Path, allow_pickle: bool = False, **source) -> Source:
        """A model by folder or name, without its weights in memory; arguments as in `from_pretrained`.

        Raises:
            ConfigurationError: a model of another kind.
            CheckpointError, DownloadError: weights that cannot be had or do not fit.
        """
        name = hub.locate(str(name))
        family = find_family(name, **source)
        model_class = family.load("model")
        config = family.load("config").from_pretrained(name, **source)
        folder = weights_folder(name, **source)
        checkpoint = open_folder(folder, allow_pickle, model_class.weight_prefixes)
        check_blocks(config, checkpoint)
        dtype = loading_dtype(None, None, config)
        model = model_class.without_memory(config, dtype)
        pieces = dict(named_pieces(model))
        if faults := name_faults(pieces, checkpoint, optional_names(model)):
            raise CheckpointError(
                f"{checkpoint.path} does not fit the model: {', '.join(faults)}. Take all files from one model."
            )
        checkpoint.settle_layout(pieces.items())
        found = cls(name, source, folder, family, config, dtype, checkpoint, pieces, frozenset(_converted(model)))
        if not Path(name).is_dir():
            found.processor  # noqa: B018 fetches its files, which are to lie beside the weights
        return found

    @cached_property
    def processor(self):
        """Its processor.

        Raises:
            ConfigurationError, DownloadError: files that are missing.
        """
        return self.family.load("processor").from_pretrained(self.name, **self.where)

    def model(self, dtype: str):
        """The model, with parameters that have no values yet."""
        return self.family.load("model").without_memory(self.config, dtype)

    @property
    def inputs(self) -> set[int]:
        """Widths of what the modules take."""
        return {self.pieces[f"{module}.weight"].shape[1] for module in self.modules}

    def values(self, name: str, dtype: str) -> np.ndarray:
        """A tensor as the Hub has it, in another dtype."""
        piece = self.pieces[name]
        values, is_bfloat16 = self.checkpoint.read(name, piece.shape, whole(piece.shape), piece.linear)
        if values.dtype.kind not in "fu":
            raise CheckpointError(f"{self.checkpoint.file_of(name)}: tensor {name!r} holds no floating numbers.")
        with np.errstate(over="ignore"):
            found = cast(values, is_bfloat16, dtype)
        self.checkpoint.release(name)
        return found

    @cached_property
    def other_files(self) -> list[Path]:
        """All files of the folder but the weights: tokenizer, processor, templates, settings."""
        weights = {self.checkpoint.file_of(name) for name in self.checkpoint.names()}
        named = {*WEIGHTS, hub.CONFIG}
        return [
            path
            for path in sorted(self.folder.iterdir())
            if path.is_file()
            and path not in weights
            and path.name not in named
            and not path.name.startswith(".")
            and path.suffix not in (".safetensors", ".bin", ".pdparams", ".pt", ".pth", ".gguf")
        ]

    def identity(self) -> dict[str, Any]:
        """What tells the model from others: a hash of its config and its index, names and sizes of its weight files."""
        files = {self.checkpoint.file_of(name) for name in self.checkpoint.names()}
        told = [self.folder / hub.CONFIG, *({self.checkpoint.path} - files)]
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in told)).hexdigest()
        return {"sha256": digest, "weights": {path.name: path.stat().st_size for path in sorted(files)}}


def _converted(model) -> Iterator[str]:
    for path, layer in model.named_sublayers():
        kept = isinstance(layer, ParallelLMHead) or path.startswith(f"{model.vision_path}.")
        if isinstance(layer, Linear) and not kept:
            yield from (piece.name(f"{path}.weight").removesuffix(".weight") for piece in layer.pieces)
