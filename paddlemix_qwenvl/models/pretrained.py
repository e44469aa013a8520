"""What the models of all families share: loading, saving, quantising."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path

import paddle
from paddle import nn

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.dtypes import QUANTIZATIONS
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, ParallelError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead
from paddlemix_qwenvl.layers.formats import Dense, Format, Int4, Int8, size
from paddlemix_qwenvl.layers.formats import quantization as quantized
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.models.auto import config_file
from paddlemix_qwenvl.models.generation_config import (
    GENERATION_CONFIG,
    GenerationConfig,
    read_generation_file,
    write_generation_config,
)
from paddlemix_qwenvl.models.laying import lay
from paddlemix_qwenvl.models.loading import (
    check_arguments,
    check_blocks,
    check_degree,
    check_quantization,
    loading_dtype,
    shard_bytes,
    weights_folder,
)
from paddlemix_qwenvl.models.quantised_cache import load_quantised
from paddlemix_qwenvl.models.quantization import read
from paddlemix_qwenvl.parallel import DEGREES, TensorParallel, tensor_parallel, using
from paddlemix_qwenvl.progress import OnProgress
from paddlemix_qwenvl.weights.checkpoint import Checkpoint, open_folder
from paddlemix_qwenvl.weights.loading import load_weights
from paddlemix_qwenvl.weights.packing import quantization_config
from paddlemix_qwenvl.weights.quantised import laid_of
from paddlemix_qwenvl.weights.saving import save_weights

_ARGUMENTS = ("dtype", "torch_dtype", "config", "quantization", "allow_pickle", "on_progress")


class LoadableModel(nn.Layer):
    """Base of all families' models, which are made of a config and filled from a folder."""

    config_class: type
    """Class of the config."""

    base_model_prefix = "model"
    optional_weights: frozenset[str] = frozenset()
    """Hub names that a checkpoint may hold without the model needing them."""
    weight_prefixes: dict[str, str] = {}  # noqa: RUF012
    """What names begin with in some files -> what they begin with on the Hub, the longest first."""
    vision_path = "visual"
    """Path of the vision tower among the sublayers."""
    vision_mlp: type | tuple = ()
    """Class of the MLPs in the vision tower's blocks."""
    prompt_inputs: tuple[str, ...] = ()
    """What a call of `generate` may bring for the prompt."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        tokens = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.generation_config = self.generation_config_of(tokens)

    @staticmethod
    def generation_config_of(values: dict):
        """The object that holds the content of a generation_config.json."""
        return GenerationConfig(**values)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        *args,
        config=None,
        dtype: str | None = None,
        torch_dtype: str | None = None,
        quantization: str | None = None,
        allow_pickle: bool = False,
        on_progress: OnProgress | None = None,
        **kwargs,
    ):
        """Load a model from a folder or by name.

        Args:
            pretrained_model_name_or_path: a folder in the Hub's or Paddle's layout, or a name such as
                "Qwen/Qwen2.5-VL-3B-Instruct", or "demo" for the model in this package.
            config: a config, in place of the folder's.
            dtype: "float32", "float16" or "bfloat16" of weights and KV cache; None or "auto" for what the config says.
            torch_dtype: transformers' older name of it.
            quantization: "int8" or "fp8" keeps the weights of the language model and of the vision blocks' MLPs in 8 bits, with a
                scale an output channel; "int4" those of the decoder's blocks in 4, in groups of inputs, and the others as int8;
                None for none. What is made so is kept on disk for the next load (`models/quantised_cache.py`).
            allow_pickle: read `.pdparams` and `.bin`, of which arrays alone are taken.
            on_progress: gets how many of the weights' numbers are there, and how many they are.
            kwargs: where to look (`cache_dir`, `subfolder`, `from_hf_hub`, ...), fields of the config to change, and what
                PaddleNLP and transformers take that is done anyway (`low_cpu_mem_usage`, ...).

        Raises:
            DownloadError: no source has the model, or none can be reached.
            CheckpointError: weights that are missing, damaged or of another model.
            ConfigurationError: a dtype, quantization, configuration or argument that cannot be.
            ParallelError: a `tensor_parallel_degree` that was not launched.
        """
        if quantization not in (None, *QUANTIZATIONS):
            raise ConfigurationError(
                f"quantization is {quantization!r}: it must be one of {', '.join(QUANTIZATIONS)}, or None."
            )
        if args or not isinstance(config, cls.config_class | None):
            wanted = f"a {cls.config_class.__name__} as config=... at most, and other arguments by their names"
            raise ConfigurationError(f"{cls.__name__}.from_pretrained got {[*args, config]}: expected {wanted}.")
        source = hub.take_source(kwargs)
        config_file(pretrained_model_name_or_path, **source)
        name = hub.locate(str(pretrained_model_name_or_path))
        check_degree(kwargs.get("tensor_parallel_degree"))
        fields = cls.config_class.field_names() if config is None else set()
        if config is None:
            config, kwargs = cls.config_class.from_pretrained(name, return_unused_kwargs=True, **source, **kwargs)
        check_arguments(kwargs, f"{cls.__name__}.from_pretrained", {*fields, *_ARGUMENTS, *hub.SOURCE_OPTIONS})
        check_quantization(config, quantization, dtype or torch_dtype)
        config.dtype = dtype = loading_dtype(dtype, torch_dtype, config)
        # What a quantised model cannot be is told before any download.
        model = cls.fitting(config, dtype) if config.quantization else None
        folder = weights_folder(name, **source)
        generation = folder / GENERATION_CONFIG
        generation = cls.generation_config_of(read_generation_file(generation)) if generation.is_file() else None

        def opened() -> Checkpoint:
            checkpoint = open_folder(folder, allow_pickle, cls.weight_prefixes)
            check_blocks(config, checkpoint)
            return checkpoint

        if quantization:
            model = load_quantised(
                lambda: cls.without_memory(config, dtype), opened, folder, config, quantization, on_progress
            )
        else:
            checkpoint = opened()
            model = model or cls.without_memory(config, dtype)
            tensor_parallel().meet()
            load_weights(model, checkpoint, dtype, on_progress=on_progress)
        tensor_parallel().meet()
        model.eval()
        model.generation_config = generation or model.generation_config
        return model

    @classmethod
    def _from_config(cls, config, dtype: str | None = None, torch_dtype: str | None = None, **kwargs):
        """A model with random weights, as the hosts' Auto classes ask for it; arguments as in `from_pretrained`."""
        check_arguments(kwargs, f"{cls.__name__}.from_config", _ARGUMENTS[:2])
        with default_dtype(loading_dtype(dtype, torch_dtype, config)):
            return cls(config)

    @classmethod
    def without_memory(cls, config, dtype: str):
        """The model with parameters that have shapes but no values yet, and know how they lie in a quantised checkpoint.

        Raises:
            ConfigurationError: weights that cannot be quantised as the config says.
            ParallelError: weights of which a rank cannot have its part.
        """
        with default_dtype(dtype), paddle.LazyGuard():
            model = cls(config)
        if config.quantization:
            lay(model, config.quantization, dtype)
        return model

    @classmethod
    def fitting(cls, config, dtype: str):
        """As `without_memory`; the error for a degree of tensor parallelism that cannot be says which can."""
        try:
            return cls.without_memory(config, dtype)
        except ParallelError as error:
            fit = [str(degree) for degree in DEGREES if cls._fits(config, dtype, degree)]
            raise ParallelError(f"{error} Start {' or '.join(fit)} ranks.") from error

    @classmethod
    def _fits(cls, config, dtype: str, degree: int) -> bool:
        try:
            for rank in {0, degree - 1}:
                with using(TensorParallel(rank, degree)):
                    cls.without_memory(config, dtype)
        except ParallelError:
            return False
        return True

    def quantize(self, quantization: str) -> None:
        """Hold weights in fewer bits, as in `from_pretrained`.

        In int8 and fp8 a third of the vision tower's weights, all but its MLPs, keep their dtype: they would add four tenths to
        int8's error (docs/benchmarks.md). Beside int4, whose own error is many times that, they are int8 as its MLPs and the head.
        The model can then not be trained.
        """
        for layer, name in self.quantizable(quantization).items():
            if layer.format == Dense():
                layer.quantize(name)

    def quantizable(self, quantization: str) -> dict[Linear, str]:
        """The layers that `quantize` changes, and the names of their formats."""
        tower = reduce(getattr, self.vision_path.split("."), self)
        mlps = [layer for mlp in tower.sublayers() if isinstance(mlp, self.vision_mlp) for layer in mlp.sublayers()]
        inside, mlps = ({id(layer) for layer in layers} for layers in (tower.sublayers(), mlps))
        kept = set() if quantization == Int4.name else inside - mlps
        found: dict[Linear, str] = {}
        for layer in self.sublayers():
            if not isinstance(layer, Linear) or id(layer) in kept:
                continue
            if len(layer.pieces[0].shape) > 2:  # a convolution in the files
                continue
            sensitive = id(layer) in inside or isinstance(layer, ParallelLMHead)
            found[layer] = Int8.name if sensitive and quantization == Int4.name else quantization
        return found

    def quantized_as_read(self, quantization: str) -> Callable[[str], None]:
        """What `load_weights` is to call with the path of each parameter: the weight there, once read, is quantised."""
        paths = {id(parameter): path for path, parameter in self.named_parameters()}
        layers = {paths[id(layer.weight)]: (layer, name) for layer, name in self.quantizable(quantization).items()}

        def quantize(path: str) -> None:
            layer, name = layers.get(path, (None, quantization))
            if layer and layer.format == Dense():
                layer.quantize(name)

        return quantize

    def formats(self) -> set[Format]:
        """How the model's Linear layers hold their weights."""
        return {layer.format for layer in self.sublayers() if isinstance(layer, Linear)}

    def weight_bytes(self, width: int, quantization: str | None = None) -> int:
        """Bytes of the weights, where numbers take `width` of them and `quantization` is as in `from_pretrained`.

        On a GPU a tied head's values lie beside the embedding.
        """
        layers = self.quantizable(quantization) if quantization else {}
        formats = {layer: quantized(name, layer.weight.shape[1]) for layer, name in layers.items()}
        formats |= {laid.layer: laid.format() for laid in map(laid_of, self.parameters()) if laid}
        replaced = {id(layer.weight) for layer in formats} - {id(self.get_input_embeddings().weight)}
        dense = sum(math.prod(each.shape) for each in self.parameters() if id(each) not in replaced)
        return width * dense + sum(size(format, layer.weight.shape, width) for layer, format in formats.items())

    def save_pretrained(self, save_dir: str | os.PathLike, max_shard_size: int | str = "5GB", **kwargs) -> None:
        """Write config, generation config and weights in the Hub's layout, which transformers reads too; quantised weights as
        compressed-tensors lays them out.

        Args:
            save_dir: made if it does not exist.
            max_shard_size: bytes, or text such as "5GB".

        Raises:
            CheckpointError: the model is split over ranks, its int8 weights are arranged for a card, or `save_dir` is a file.
        """
        folder = Path(save_dir)
        if folder.is_file():
            raise CheckpointError(f"{folder} is a file: give a folder to save into.")
        settings = quantization_config(self)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self, folder, shard_bytes(max_shard_size))
        config = copy.copy(self.config)
        config.quantization = read(settings, folder / hub.CONFIG) if settings else None
        config.save_pretrained(folder)
        write_generation_config(self.generation_config, folder)


@contextlib.contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """Parameters are made in `dtype`."""
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(dtype)
    try:
        yield
    finally:
        paddle.set_default_dtype(before)
