"""What both families' models share with the host: loading, saving, generating."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import paddle
from paddlenlp.generation import GenerationConfig
from paddlenlp.transformers import PretrainedModel
from paddlenlp.transformers.utils import convert_file_size_to_int

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.engine.decode import Step, generate_tokens
from paddlemix_qwenvl.engine.settings import (
    GENERATION_CONFIG,
    GenerationSettings,
    check_leftovers,
    read_generation_config,
    write_generation_config,
)
from paddlemix_qwenvl.engine.stopping import StopStrings
from paddlemix_qwenvl.errors import CheckpointError, ConfigurationError, GenerationError, PromptError
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.models.auto import config_file
from paddlemix_qwenvl.models.loading import (
    check_arguments,
    check_blocks,
    check_degree,
    loading_dtype,
    weights_folder,
)
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.weights.checkpoint import load_weights, open_folder
from paddlemix_qwenvl.weights.saving import save_weights

_ARGUMENTS = ("dtype", "torch_dtype", "config", "quantization", "allow_pickle")
SIZES = ("original_sizes", "resized_sizes", "video_original_sizes", "video_resized_sizes")
"""What processors return for the grounding of answers; models have no use for it."""
_PLAIN_INPUTS = ("input_ids", "second_per_grid_ts", "remember_images")  # of which the first is looked at before


class QwenVLPretrainedModel(PretrainedModel):
    """Base of both families. A subclass offers `prefill(settings, **inputs) -> Step`."""

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
        super().__init__(config)
        tokens = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        self.generation_config = GenerationConfig(max_new_tokens=None, **tokens)

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
        **kwargs,
    ):
        """Load a model from a folder or by name, through PaddleNLP's downloader and cache.

        Args:
            pretrained_model_name_or_path: a folder in the Hub's or Paddle's layout, or a name such as
                "Qwen/Qwen2.5-VL-3B-Instruct", or "demo" for the model in this package.
            config: a config, in place of the folder's.
            dtype: "float32", "float16" or "bfloat16" of weights and KV cache; None or "auto" for what the config says.
            torch_dtype: transformers' older name of it.
            quantization: "int8" keeps the weights of the language model and of the vision blocks' MLPs as int8, with a scale an
                output channel; None for none.
            allow_pickle: read `.pdparams` and `.bin`, of which arrays alone are taken.
            kwargs: where to look (`cache_dir`, `subfolder`, `from_hf_hub`, ...), fields of the config to change, and what
                PaddleNLP and transformers take that is done anyway (`low_cpu_mem_usage`, ...).

        Raises:
            DownloadError: no source has the model, or none can be reached.
            CheckpointError: weights that are missing, damaged or of another model.
            ConfigurationError: a dtype, quantization, configuration or argument that cannot be.
            ParallelError: a `tensor_parallel_degree` that was not launched.
        """
        if quantization not in (None, "int8"):
            raise ConfigurationError(f"quantization is {quantization!r}: it must be 'int8' or None.")
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
        config.dtype = dtype = loading_dtype(dtype, torch_dtype, config)
        folder = weights_folder(name, **source)
        generation_config = read_generation_config(folder) if (folder / GENERATION_CONFIG).is_file() else None
        checkpoint = open_folder(folder, allow_pickle, cls.weight_prefixes)
        check_blocks(config, checkpoint)
        model = cls.without_memory(config, dtype)
        tensor_parallel().meet()
        if quantization == "int8":
            load_weights(model, checkpoint, dtype, model.optional_weights, model.quantize_parameter)
            model.quantize_int8()
        else:
            load_weights(model, checkpoint, dtype, model.optional_weights)
        tensor_parallel().meet()
        model.eval()
        model.generation_config = generation_config or model.generation_config
        return model

    @classmethod
    def _from_config(cls, config, dtype: str | None = None, torch_dtype: str | None = None, **kwargs):
        """As the host's, for its Auto classes; arguments as in `from_pretrained`."""
        check_arguments(kwargs, f"{cls.__name__}.from_config", _ARGUMENTS[:2])
        return super()._from_config(config, dtype=loading_dtype(dtype, torch_dtype, config))

    @classmethod
    def without_memory(cls, config, dtype: str):
        """The model with parameters that have shapes but no values yet."""
        before = paddle.get_default_dtype()
        paddle.set_default_dtype(dtype)
        try:
            with paddle.LazyGuard():
                return cls(config)
        finally:
            paddle.set_default_dtype(before)

    def can_generate(self) -> bool:
        """Both families do."""
        return True

    def quantize_int8(self) -> None:
        """Hold the weights of the language model's Linear layers and of the vision blocks' MLPs as int8.

        The rest of the vision tower, a third of its weights, keeps its dtype: it would add four tenths to the error
        (docs/benchmarks.md). The model can then not be trained or saved.
        """
        for layer in self.int8_layers():
            if layer.scale is None:
                layer.quantize_int8()

    def int8_layers(self) -> list[Linear]:
        """The layers that `quantize_int8` changes."""
        tower = reduce(getattr, self.vision_path.split("."), self)
        mlps = [layer for mlp in tower.sublayers() if isinstance(mlp, self.vision_mlp) for layer in mlp.sublayers()]
        kept = {id(layer) for layer in tower.sublayers()} - {id(layer) for layer in mlps}
        return [layer for layer in self.sublayers() if isinstance(layer, Linear) and id(layer) not in kept]

    def quantize_parameter(self, path: str) -> None:
        """Hold the parameter at `path` as int8 if it is the weight of one of the `int8_layers`."""
        weight = reduce(getattr, path.split("."), self)
        for layer in self.int8_layers():
            if layer.weight is weight:
                layer.quantize_int8()

    def save_pretrained(self, save_dir: str | os.PathLike, max_shard_size: int | str = "5GB", **kwargs) -> None:
        """Write config, generation config and weights in the Hub's layout, which transformers reads too.

        Args:
            save_dir: made if it does not exist.
            max_shard_size: bytes, or text such as "5GB".

        Raises:
            CheckpointError: the model is quantised or split over ranks, or `save_dir` is a file.
        """
        folder = Path(save_dir)
        if folder.is_file():
            raise CheckpointError(f"{folder} is a file: give a folder to save into.")
        if any(layer.scale is not None for layer in self.sublayers() if isinstance(layer, Linear)):
            raise CheckpointError(
                "a model with int8 weights cannot be saved: load it without quantization and save that."
            )
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self, folder, convert_file_size_to_int(max_shard_size))
        self.config.save_pretrained(folder)
        write_generation_config(self.generation_config, folder)

    @paddle.no_grad()
    def generate(
        self,
        input_ids=None,
        generation_config=None,
        stopping_criteria=None,
        streamer=None,
        stop_strings: str | list[str] | None = None,
        tokenizer=None,
        **kwargs,
    ):
        """Answer a batch of prompts.

        Args:
            input_ids: int64 `[B, S]`, padded on the left.
            generation_config: defaults in place of the model's `generation_config.json`.
            stopping_criteria: one or several callables as in `generation.stopping`.
            streamer: gets the new tokens of every step by `put`, then `end`.
            stop_strings, tokenizer: a row ends with the first of these strings that its text holds, which stays there.
            kwargs: settings (`max_new_tokens`, `min_new_tokens`, `do_sample`, `temperature`, `top_k`, `top_p`,
                `repetition_penalty`, `eos_token_id`, `seed`, `num_beams`, or PaddleNLP's `decode_strategy`) and the processor's
                other outputs (`attention_mask`, `pixel_values`, `image_grid_thw`, ...). `remember_images=True` keeps the
                features of pictures for when they come again, as in the next turn of a chat; `train()` forgets them.

        Returns:
            PaddleNLP's pair `(ids int64 [B, new], scores float32 [B, 1])`: only new tokens, and their mean log-probability.
            `generation_seconds` of the model then holds "vision", "prefill" and "decode".

        Raises:
            GenerationError: settings that cannot be carried out.
            PromptError: a prompt that does not fit the context or the media.
        """
        if input_ids is None:
            raise PromptError("generate needs input_ids: pass on what the processor returned, generate(**inputs).")
        check_ids(input_ids)
        check_tensors({name: kwargs.get(name) for name in self.prompt_inputs if name not in _PLAIN_INPUTS})
        settings = GenerationSettings.resolve(generation_config or self.generation_config, self.config, kwargs)
        check_leftovers(kwargs, (*self.prompt_inputs, *SIZES))
        settings.check_vocabulary(self.config.vocab_size)
        criteria = [stopping_criteria] if callable(stopping_criteria) else list(stopping_criteria or ())
        if stop_strings:
            if tokenizer is None:
                raise GenerationError("stop_strings need the tokenizer: pass tokenizer=processor.tokenizer as well.")
            criteria.append(StopStrings(tokenizer, input_ids.shape[1], stop_strings))
        if settings.num_beams > 1 and (streamer is not None or criteria):
            raise GenerationError(
                "beam search takes no streamer and no stopping_criteria: leave them out, or num_beams."
            )
        self._check_length(input_ids.shape[1], settings)
        started = time.perf_counter()
        step = self.prefill(settings, input_ids=input_ids, **kwargs)
        step.logits.numpy()  # waits for the device
        prefill = time.perf_counter() - started
        if settings.num_beams > 1:
            from paddlemix_qwenvl.engine.beam import beam_search

            answer = beam_search(step, input_ids, settings)
        else:
            answer = generate_tokens(step, input_ids, settings, streamer, criteria)
        vision = getattr(self, "vision_seconds", 0.0)
        self.generation_seconds = {"vision": vision, "prefill": prefill - vision, "decode": answer.seconds}
        return answer.token_ids, answer.scores

    def prefill(self, settings: GenerationSettings, **inputs) -> Step:
        """Run the prompt; the family knows how."""
        raise NotImplementedError

    def _check_length(self, length: int, settings: GenerationSettings) -> None:
        """A prompt that fills the context is an error; a shorter one gets as many new tokens as fit."""
        context = self.config.max_position_embeddings
        if length >= context:
            raise PromptError(
                f"the prompt has {length} tokens and the model's context is {context}: shorten it, or give fewer images, or "
                f"where the processor takes one, a smaller max_pixels."
            )
        settings.max_new_tokens = min(settings.max_new_tokens, context - length)


def check_ids(input_ids) -> None:
    """Raises PromptError for what is no batch of token ids."""
    check_tensors({"input_ids": input_ids})
    if len(input_ids.shape) != 2 or input_ids.dtype not in (paddle.int64, paddle.int32):
        raise PromptError(
            f"input_ids is {dtype_name(input_ids.dtype)} {list(input_ids.shape)}: it must be int64 [B, S], "
            f"a batch of rows of one length, as the processor returns it."
        )


def check_tensors(inputs: Mapping[str, Any]) -> None:
    """Raises PromptError for what is there but no tensor of Paddle's."""
    for name, value in inputs.items():
        if value is not None and not isinstance(value, paddle.Tensor):
            kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
            raise PromptError(
                f'{name} is a {kind}, not a tensor of Paddle: call the processor with return_tensors="pd", and pass on what it '
                f"returns."
            )
