"""PaddleFormers' kind of the core's configs and models, which its Auto classes hand out.

Tokenizers and processors are the core's own: PaddleFormers calls and saves them, and its classes for them are transformers'.
"""

from __future__ import annotations

import functools
import os
from dataclasses import fields

from paddle import nn
from paddleformers.generation import GenerationConfig
from paddleformers.transformers import PretrainedConfig, PretrainedModel

from paddlemix_qwenvl.engine.generate import Generates
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.models.config import ModelConfig
from paddlemix_qwenvl.models.pretrained import LoadableModel

_WAYS = ("convert_from_hf", "load_via_cpu", "load_checkpoint_format")
"""How PaddleFormers' own models read weights; ours read what there is."""
_ALWAYS = ("tie_word_embeddings", "torch_dtype", "architectures", "model_type")
"""What a config.json says although it may be what PaddleFormers takes where it does not."""


@functools.cache
def host_class(core: type) -> type:
    """The class that PaddleFormers' Auto classes hand out for one of the core's."""
    if issubclass(core, ModelConfig):
        bases, members = (_Config, core, PretrainedConfig), {}
    elif issubclass(core, LoadableModel):
        bases, members = (_Model, Generates, core, _Layer), {"config_class": host_class(core.config_class)}
    else:
        return core
    return type(core.__name__, bases, {"__module__": __name__, "__doc__": core.__doc__, **members})


class _Config:
    """Put before a core config: it has PaddleFormers' fields as well."""

    def _keep(self, host: dict, others: dict) -> None:
        PretrainedConfig.__init__(self, **{name: value for name, value in host.items() if value is not None}, **others)

    def to_dict(self, saving_file: bool = False) -> dict:
        """As the core's, without what PaddleFormers has for every model."""
        always = {*(field.name for field in fields(self.model_fields)), *_ALWAYS}
        common = vars(PretrainedConfig())
        return {name: value for name, value in super().to_dict().items() if name in always or common.get(name) != value}

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs) -> None:
        """As the core's; `kwargs` ask for other layouts than the Hub's."""
        super().save_pretrained(save_directory)


class _Layer(PretrainedModel):
    """PaddleFormers' model as a base of the core's, which makes a layer and keeps its config itself."""

    def __init__(self):
        nn.Layer.__init__(self)


class _Model:
    """Put before a core model: PaddleFormers' arguments."""

    @staticmethod
    def generation_config_of(values: dict) -> GenerationConfig:
        """PaddleFormers' object, its `max_new_tokens` None where `values` do not say."""
        taken = {"self", *dir(GenerationConfig)}
        config = GenerationConfig(**{name: value for name, value in values.items() if name not in taken})
        config.max_new_tokens = values.get("max_new_tokens")
        return config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args, **kwargs):
        """As the core's, with PaddleFormers' ways of reading, of which there is only one."""
        kwargs = {name: value for name, value in kwargs.items() if name not in _WAYS}
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
        """As the core's, on the main process alone. `kwargs` ask for one of PaddleFormers' layouts: this is the Hub's.

        Raises:
            CheckpointError: weights in place of the model's own, or as the core's.
        """
        if state_dict is not None:
            raise CheckpointError("save_pretrained got a state_dict: put it into the model, and save that without it.")
        if is_main_process:
            super().save_pretrained(save_dir, max_shard_size=max_shard_size)
