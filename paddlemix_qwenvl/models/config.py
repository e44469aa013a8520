"""What the configurations of all families share: a config.json read as data that may be wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from paddlemix_qwenvl import hub
from paddlemix_qwenvl.dtypes import DTYPES, dtype_name
from paddlemix_qwenvl.fields import Count, Flag, Number, Text, Whole, checked, optional_fields, read_object, wrong
from paddlemix_qwenvl.files import folder_to_save, write_json
from paddlemix_qwenvl.models import quantization, unsupported
from paddlemix_qwenvl.models.auto import config_file

Layers = Annotated[int, Field(strict=True, ge=1, le=1000)]
Width = Annotated[int, Field(strict=True, ge=1, le=2**14)]
InnerWidth = Annotated[int, Field(strict=True, ge=1, le=2**18)]
Side = Annotated[int, Field(strict=True, ge=1, le=32)]
"""Patches, frames or channels that are taken together."""
PatchSize = Annotated[int, Field(strict=True, ge=1, le=256)]
Vocabulary = Annotated[int, Field(strict=True, ge=1, le=2**24)]
Epsilon = Annotated[float, Field(strict=True, gt=0, lt=1)]
Deviation = Annotated[float, Field(strict=True, ge=0, le=100)]
RopeBase = Annotated[float, Field(strict=True, ge=1, le=2**40)]
Label = Annotated[str, Field(pattern=r"^\d{1,6}$")]


def _only(wanted: bool) -> AfterValidator:
    def check(value: bool) -> bool:
        if value is not wanted:
            raise PydanticCustomError("only", f"{str(wanted).lower()}, which every released model has")
        return value

    return AfterValidator(check)


Off, On = Annotated[Flag, _only(False)], Annotated[Flag, _only(True)]
"""Switches for what no model here does, and for what all do."""
One = Annotated[int, Field(strict=True, ge=1, le=1)]
DType = Annotated[Literal[DTYPES], BeforeValidator(dtype_name)]


_OfTheModel = optional_fields(
    "_OfTheModel",
    (list[Text], "architectures"),
    (DType, "dtype torch_dtype"),
    (Text, "name_or_path _name_or_path paddlenlp_version transformers_version"),
    (Text, "tokenizer_class prefix finetuning_task"),
    (Whole, "bos_token_id pad_token_id sep_token_id decoder_start_token_id cross_attention_hidden_size"),
    (Whole, "num_choices chunk_size_feed_forward"),
    (Whole | list[Whole], "eos_token_id"),
    (dict[Text, Any], "quantization_config auto_map task_specific_params"),
    (Literal["regression", "single_label_classification", "multi_label_classification"], "problem_type"),
    (dict[Whole | Label, Text], "id2label"),
    (dict[Text, Whole], "label2id"),
    (Annotated[int, Field(strict=True, ge=0, le=10**6)], "num_labels num_classes"),
    (dict[Whole | Label, list[Whole]], "pruned_heads"),
    (Number, "classifier_dropout"),
    (Flag, "is_decoder output_hidden_states output_attentions fuse_attention_qkv fuse_attention_ffn"),
    (Off, "is_encoder_decoder add_cross_attention tie_encoder_decoder"),
)
_OfTraining = optional_fields(
    "_OfTraining",
    (Flag, "use_flash_attention use_fused_rms_norm use_fused_rope use_fused_linear use_fused_dropout_add"),
    (Flag, "use_fused_linear_cross_entropy tensor_parallel_output fuse_sequence_parallel_allreduce"),
    (Flag, "gradient_checkpointing recompute recompute_use_reentrant offload_recompute_inputs"),
    (Text, "recompute_granularity refined_recompute"),
    (Whole, "tensor_parallel_rank pp_recompute_interval"),
    (Count, "tensor_parallel_degree"),
    (list[Whole], "no_recompute_layers"),
    (One, "pipeline_parallel_degree virtual_pp_degree sep_parallel_degree context_parallel_degree"),
    (Off, "sequence_parallel"),
)
_OfGeneration = optional_fields(  # where old files keep them; nothing here reads them from a config
    "_OfGeneration",
    (Whole, "max_length min_length top_k no_repeat_ngram_size encoder_no_repeat_ngram_size"),
    (Whole, "forced_bos_token_id"),
    (Whole | list[Whole], "forced_eos_token_id"),
    (Count, "num_beams num_beam_groups num_return_sequences"),
    (Number, "temperature top_p typical_p repetition_penalty length_penalty diversity_penalty"),
    (Flag, "do_sample output_scores return_dict_in_generate remove_invalid_values"),
    (Flag | Literal["never"], "early_stopping"),
    (list[Number], "exponential_decay_length_penalty"),
    (list[Whole], "suppress_tokens begin_suppress_tokens"),
    (list[list[Whole]], "bad_words_ids"),
)


@dataclass
class HostFields(_OfTheModel, _OfTraining, _OfGeneration):
    """What a config.json may hold beside the model's own fields, as the hosts write them; None where it does not say."""

    tie_word_embeddings: Flag = False
    use_cache: Flag = True
    return_dict: Flag = True


class ModelConfig:
    """Base of all families' configurations. A subclass names the two dataclasses, and says what fits together.

    Attributes:
        model_fields: the model's own fields, which are always saved.
        file_fields: all that a config.json may hold and that is checked: the model's, the host's, and older spellings.
        field_defaults: where they are others than those of `file_fields`.
        vision_part: the field that holds the vision tower's.
        quantization: how the checkpoint's weights are quantised, None for not at all.
        parts: the fields that are objects; changing one of these on loading adds to the file's.
    """

    model_type: ClassVar[str]
    model_fields: ClassVar[type]
    file_fields: ClassVar[type]
    field_defaults: ClassVar[Mapping[str, Any]] = {}
    parts: ClassVar[tuple[str, ...]]
    vision_part: ClassVar[str] = "vision_config"

    def __init__(self, source: str | os.PathLike | None = None, /, **given):
        source = source or f"the arguments of {type(self).__name__}"
        given = self.flat(self._checked(given, source))
        said = {name: value for name, value in given.items() if value is not None}
        values = checked(self.file_fields, {**self.field_defaults, **said}, source)
        for name in (field.name for field in fields(self.model_fields)):
            setattr(self, name, said.get(name, getattr(values, name)))
        self._complete(values, given, source)
        self.quantization = None
        if settings := given.get(unsupported.QUANTIZATION):
            self.quantization = quantization.read(settings, f"{os.fspath(source)}: {unsupported.QUANTIZATION}")
        host = {name: getattr(values, name) for name in _HOST_NAMES - {"dtype", "torch_dtype", "quantization_config"}}
        host["dtype"] = values.dtype or values.torch_dtype
        # What nobody knows stays an attribute, unless a class has something else of that name.
        others = given.keys() - vars(self).keys() - _HOST_NAMES - {"self", *dir(type(self))}
        self._keep(host, {name: given[name] for name in others})

    def _keep(self, host: dict, others: dict) -> None:
        """Set the fields of `HostFields`, and those that nobody knows."""
        vars(self).update(host, dtype=host["dtype"] or "float32", **others)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {json.dumps(self.to_dict(), indent=2, default=str)}"

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None

    @classmethod
    def _checked(cls, given: Mapping[str, Any], source: str | os.PathLike) -> dict:
        """The fields of a file or of a call, each of which is what it can be; objects as their fields.

        Raises:
            ConfigurationError: a value of the wrong type or out of range, or a checkpoint that is quantised.
        """
        given = {name: value.to_dict() if hasattr(value, "to_dict") else value for name, value in given.items()}
        if unsupported.is_no_quantisation(given.get("quantization_config")):
            del given["quantization_config"]
        unsupported.refuse_quantised(given, source)
        checked(cls.file_fields, given, source)
        return given

    @classmethod
    def flat(cls, given: dict) -> dict:
        """The fields without older spellings and nested forms."""
        return given

    def _complete(self, values, given: dict, source: str | os.PathLike) -> None:
        """Check what the single fields cannot tell, and set what is no field of `model_fields`.

        Raises:
            ConfigurationError: fields that do not fit each other.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        return_unused_kwargs: bool = False,
        **kwargs,
    ):
        """Read a config.json.

        Args:
            pretrained_model_name_or_path: the file, a folder that holds it, or a name.
            return_unused_kwargs: return what is no field as well, instead of refusing it.
            kwargs: fields to change, and where a name is looked up (`hub.SOURCE_OPTIONS`).

        Raises:
            ConfigurationError: a file that is no config.json of this family, or values that no model can have.
            DownloadError: no such file.
        """
        options = hub.take_source(kwargs)
        path = config_file(pretrained_model_name_or_path, **options)
        given = read_object(path)
        if not given.get(unsupported.QUANTIZATION) and (settings := unsupported.settings_beside(path.parent)):
            given[unsupported.QUANTIZATION] = settings
        config, unused = cls.from_dict(given, source=path, return_unused_kwargs=True, **kwargs)
        if return_unused_kwargs:
            return config, unused
        unsupported.refuse_arguments(unused, f"{cls.__name__}.from_pretrained", cls.field_names())
        return config

    @classmethod
    def from_dict(
        cls, config_dict: dict, source: str | os.PathLike = "config.json", return_unused_kwargs: bool = False, **kwargs
    ):
        """The content of a config.json, with the fields among `kwargs` changed, which go through the same checks.

        Raises:
            ConfigurationError: another kind of model's, or no model's.
        """
        cls.refuse_others(config_dict, source)
        known = cls.field_names() | config_dict.keys()
        changes = {name: kwargs.pop(name) for name in list(kwargs) if name in known}
        given = cls.flat(cls._checked(config_dict, source))
        if changes:
            changes = cls.flat(cls._checked(changes, f"the arguments of {cls.__name__}.from_pretrained"))
            changes = {name: value for name, value in changes.items() if value is not None}
            parts = {name: {**given.get(name, {}), **changes[name]} for name in cls.parts if changes.get(name)}
            given = {**given, **changes, **parts}
            source = f"{os.fspath(source)} with {', '.join(changes)} changed"
        config = cls(source, **given)
        return (config, kwargs) if return_unused_kwargs else config

    @classmethod
    def refuse_others(cls, config: Mapping[str, Any], source: str | os.PathLike) -> None:
        """Raises ConfigurationError for the config.json of another kind of model."""
        unsupported.refuse_other_family(config, cls.model_type, source)

    @classmethod
    def field_names(cls) -> set[str]:
        """All fields that are checked."""
        return {field.name for field in fields(cls.file_fields)}

    @property
    def split_unit(self) -> int:
        """Inputs of a layer that one rank takes together."""
        return self.quantization.unit if self.quantization else 1

    def to_dict(self) -> dict:
        """The Hub's form."""
        kept = {name: value for name, value in vars(self).items() if value is not None}
        dtype = kept.pop("dtype", None)
        found = {**kept, "model_type": self.model_type, "torch_dtype": dtype}
        quantization = found.pop("quantization", None)
        return found | ({unsupported.QUANTIZATION: quantization.settings} if quantization else {})

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """Write config.json.

        Raises:
            ConfigurationError: `save_directory` is a file.
        """
        folder = folder_to_save(save_directory)
        write_json(folder / hub.CONFIG, self.to_dict(), ensure_ascii=False)


_HOST_NAMES = {field.name for field in fields(HostFields)}


def check_token_ids(
    given: Mapping[str, Any], names: tuple[str, ...], vocab_size: int, source: str | os.PathLike
) -> None:
    """Raises ConfigurationError for token ids that the vocabulary does not have."""
    for name in names:
        tokens = given.get(name)
        for token in tokens if isinstance(tokens, list) else [tokens]:
            if token is not None and token >= vocab_size:
                raise wrong(source, name, tokens, f"ids below vocab_size, {vocab_size}")
