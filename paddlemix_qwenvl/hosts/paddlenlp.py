"""PaddleNLP's kind of each class of `models/`: same name, same numbers, and what PaddleNLP and PaddleMIX expect of it.

`adapt` puts a mixin before our class and PaddleNLP's base behind it: a config is a `PretrainedConfig`, a model a
`PretrainedModel` that generates, and so on. What both have is ours, as the mixins do not say otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any

from paddle import nn
from paddlenlp.generation import GenerationConfig
from paddlenlp.transformers import PretrainedConfig, PretrainedModel
from paddlenlp.transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from paddlenlp.transformers.model_outputs import ModelOutput
from paddlenlp.transformers.processing_utils import ProcessorMixin

from paddlemix_qwenvl.engine.generate import Generates
from paddlemix_qwenvl.hosts import shared
from paddlemix_qwenvl.hosts.paddlenlp_tokenizers import adapt_tokenizer
from paddlemix_qwenvl.models.base import DecoderModel
from paddlemix_qwenvl.models.config import ModelConfig
from paddlemix_qwenvl.models.family import families
from paddlemix_qwenvl.models.processor import ImageProcessor, Processor
from paddlemix_qwenvl.models.tokenizer import Tokenizer

_ALWAYS_SAVED = ("tie_word_embeddings", "torch_dtype", "architectures", "model_type")


class HostConfig:
    """A config that is PaddleNLP's, too."""

    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  (the host's own name and type)
    save_pretrained = PretrainedConfig.save_pretrained

    def _keep(self, host: dict, others: dict) -> None:
        PretrainedConfig.__init__(self, **{name: value for name, value in host.items() if value is not None}, **others)

    def to_dict(self, saving_file: bool = False) -> dict:
        """The Hub's form."""
        ours, values = super().to_dict(), PretrainedConfig.to_dict(self, saving_file=saving_file)
        dtype = values.pop("dtype", None)
        if values.pop("quantization", None):  # ours says it in the file's form, the host knows its own alone
            values["quantization_config"] = ours["quantization_config"]
        return {**values, **{name: ours[name] for name in self.parts}, "torch_dtype": dtype}

    def to_diff_dict(self, saving_file: bool = False) -> dict:
        """What is saved: the host leaves out what equals our defaults, but other readers have other defaults."""
        values = self.to_dict(saving_file=saving_file)
        always = [*(field.name for field in dataclasses.fields(self.model_fields)), *self.parts, *_ALWAYS_SAVED]
        always += ["quantization_config"] if self.quantization else []
        differing = PretrainedConfig.to_diff_dict(self, saving_file=saving_file)
        return {**differing, **{name: values[name] for name in always}}


class HostModel(Generates):
    """A model that is PaddleNLP's, too."""

    @staticmethod
    def generation_config_of(values: dict) -> GenerationConfig:
        """The host's object, its `max_new_tokens` None where the file does not say."""
        return shared.generation_config(GenerationConfig, values)


class ModelBase(PretrainedModel):
    """PaddleNLP's base, which takes its config from the class before it."""

    model_config_file = "config.json"

    def __init__(self):
        nn.Layer.__init__(self)


class HostProcessor:
    """A processor that is PaddleNLP's, too."""

    def __call__(self, *args, **options) -> BatchFeature:
        return BatchFeature({**super().__call__(*args, **options)})

    def save_pretrained(self, save_directory, **kwargs) -> None:
        """As ours."""
        super().save_pretrained(save_directory)


class HostImageProcessor(HostProcessor):
    """An image processor that is PaddleNLP's, too."""

    def __call__(self, *args, **options) -> BatchFeature:
        return self.preprocess(*args, **options)

    def preprocess(self, *args, **options) -> BatchFeature:
        """As ours."""
        return BatchFeature({**super().preprocess(*args, **options)})


@functools.cache
def adapt(core: type) -> type:
    """PaddleNLP's kind of a class of `models/`."""
    if issubclass(core, Tokenizer):
        return adapt_tokenizer(core)
    ours, mixin, base = next(row for row in _BASES if issubclass(core, row[0]))
    body: dict[str, Any] = {"__module__": __name__, "__doc__": core.__doc__}
    if ours is DecoderModel:
        body |= {
            "config_class": adapt(core.config_class),
            "output_class": shared.output_class(core.output_class, ModelOutput),
        }
    if ours is Processor:
        body["parts"] = {name: adapt(part) for name, part in core.parts.items()}
    return types.new_class(core.__name__, (mixin, core, base), exec_body=lambda names: names.update(body))


_BASES = (
    (ModelConfig, HostConfig, PretrainedConfig),
    (DecoderModel, HostModel, ModelBase),
    (ImageProcessor, HostImageProcessor, BaseImageProcessor),
    (Processor, HostProcessor, ProcessorMixin),
)


def __getattr__(name: str) -> type:
    for family in families():
        for kind, (_, class_name) in family.classes.items():
            if class_name == name:
                return adapt(family.load(kind))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
