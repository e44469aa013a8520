"""PaddleFormers' kind of the configs and models of `models/`, as `paddlenlp.py` makes PaddleNLP's.

Tokenizers and processors are our own: PaddleFormers calls and saves them, and its classes for them are transformers'.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import types
from typing import Any

from paddle import nn
from paddleformers.generation import GenerationConfig
from paddleformers.transformers import PretrainedConfig, PretrainedModel
from paddleformers.transformers.model_outputs import ModelOutput

from paddlemix_qwenvl.engine.generate import Generates
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.hosts import shared
from paddlemix_qwenvl.models.base import DecoderModel
from paddlemix_qwenvl.models.config import ModelConfig

_ALWAYS_SAVED = ("tie_word_embeddings", "torch_dtype", "architectures", "model_type")
_WAYS_TO_READ = ("convert_from_hf", "load_via_cpu", "load_checkpoint_format")


class HostConfig:
    """A config that is PaddleFormers', too."""

    def _keep(self, host: dict, others: dict) -> None:
        PretrainedConfig.__init__(self, **{name: value for name, value in host.items() if value is not None}, **others)

    def to_dict(self, saving_file: bool = False) -> dict:
        """As ours, without what PaddleFormers has for every model."""
        always = {*(field.name for field in dataclasses.fields(self.model_fields)), *_ALWAYS_SAVED}
        common = vars(PretrainedConfig())
        return {name: value for name, value in super().to_dict().items() if name in always or common.get(name) != value}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """As ours, the Hub's layout, whichever PaddleFormers would write."""
        super().save_pretrained(save_directory)


class HostModel(Generates):
    """A model that is PaddleFormers', too."""

    @staticmethod
    def generation_config_of(values: dict) -> GenerationConfig:
        """PaddleFormers' object."""
        return shared.generation_config(GenerationConfig, values)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As ours, which reads what there is, whichever way PaddleFormers would read it."""
        kwargs = {name: value for name, value in kwargs.items() if name not in _WAYS_TO_READ}
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def save_pretrained(
        self,
        save_dir: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        save_function=None,
        max_shard_size: int | str = "5GB",
        **kwargs,
    ) -> None:
        """As ours, the Hub's layout, on the main process alone.

        Raises:
            CheckpointError: weights in place of the model's own, or as ours.
        """
        if state_dict is not None:
            raise CheckpointError("save_pretrained got a state_dict: put it into the model, and save that without it.")
        if is_main_process:
            super().save_pretrained(save_dir, max_shard_size=max_shard_size)


class ModelBase(PretrainedModel):
    """PaddleFormers' base, which takes its config from the class before it."""

    def __init__(self):
        nn.Layer.__init__(self)


@functools.cache
def adapt(core: type) -> type:
    """PaddleFormers' kind of a class of `models/`; a tokenizer or processor as it is."""
    body: dict[str, Any] = {"__module__": __name__, "__doc__": core.__doc__}
    if issubclass(core, ModelConfig):
        bases = (HostConfig, core, PretrainedConfig)
    elif issubclass(core, DecoderModel):
        bases = (HostModel, core, ModelBase)
        output = shared.output_class(core.output_class, ModelOutput)
        body |= {"config_class": adapt(core.config_class), "output_class": output}
    else:
        return core
    return types.new_class(core.__name__, bases, exec_body=lambda names: names.update(body))
