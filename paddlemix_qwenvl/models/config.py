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
from paddlemix_qwenvl.fields import Count, Flag, Number, Text, Whole, checked, read_object, wrong
from paddlemix_qwenvl.files import folder_to_save, write_json
from paddlemix_qwenvl.models import unsupported
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


@dataclass
class HostFields:
    """What a config.json may hold beside the model's own fields, as the hosts write them; None where it does not say."""

    architectures: list[Text] | None = None
    dtype: DType | None = None
    torch_dtype: DType | None = None
    tie_word_embeddings: Flag = False
    use_cache: Flag = True
    return_dict: Flag = True
    bos_token_id: Whole | None = None
    eos_token_id: Whole | list[Whole] | None = None
    pad_token_id: Whole | None = None
    sep_token_id: Whole | None = None
    decoder_start_token_id: Whole | None = None
    quantization_config: dict[Text, Any] | None = None
    name_or_path: Text | None = None
    _name_or_path: Text | None = None
    paddlenlp_version: Text | None = None
    transformers_version: Text | None = None
    tokenizer_class: Text | None = None
    auto_map: dict[Text, Any] | None = None
    prefix: Text | None = None
    finetuning_task: Text | None = None
    task_specific_params: dict[Text, Any] | None = None
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = None
    id2label: dict[Whole | Label, Text] | None = None
    label2id: dict[Text, Whole] | None = None
    num_labels: Annotated[int, Field(strict=True, ge=0, le=10**6)] | None = None
    num_classes: Annotated[int, Field(strict=True, ge=0, le=10**6)] | None = None
    num_choices: Whole | None = None
    classifier_dropout: Number | None = None
    chunk_size_feed_forward: Whole | None = None
    pruned_heads: dict[Whole | Label, list[Whole]] | None = None
    cross_attention_hidden_size: Whole | None = None
    output_hidden_states: Flag | None = None
    output_attentions: Flag | None = None
    fuse_attention_qkv: Flag | None = None
    fuse_attention_ffn: Flag | None = None
    is_encoder_decoder: Off | None = None
    is_decoder: Flag | None = None
    add_cross_attention: Off | None = None
    tie_encoder_decoder: Off | None = None
    gradient_checkpointing: Flag | None = None
    # Of training, and of ranks.
    use_flash_attention: Flag | None = None
    use_fused_rms_norm: Flag | None = None
    use_fused_rope: Flag | None = None
    use_fused_linear: Flag | None = None
    use_fused_dropout_add: Flag | None = None
    use_fused_linear_cross_entropy: Flag | None = None
    tensor_parallel_degree: Count | None = None
    tensor_parallel_rank: Whole | None = None
    tensor_parallel_output: Flag | None = None
    pipeline_parallel_degree: One | None = None
    virtual_pp_degree: One | None = None
    sep_parallel_degree: One | None = None
    context_parallel_degree: One | None = None
    sequence_parallel: Off | None = None
    fuse_sequence_parallel_allreduce: Flag | None = None
    no_recompute_layers: list[Whole] | None = None
    pp_recompute_interval: Whole | None = None
    recompute: Flag | None = None
    recompute_granularity: Text | None = None
    recompute_use_reentrant: Flag | None = None
    refined_recompute: Text | None = None
    offload_recompute_inputs: Flag | None = None
    # Of generation, where old files keep them; nothing here reads them from a config.
    max_length: Whole | None = None
    min_length: Whole | None = None
    do_sample: Flag | None = None
    early_stopping: Flag | Literal["never"] | None = None
    num_beams: Count | None = None
    num_beam_groups: Count | None = None
    diversity_penalty: Number | None = None
    temperature: Number | None = None
    top_k: Whole | None = None
    top_p: Number | None = None
    typical_p: Number | None = None
    repetition_penalty: Number | None = None
    length_penalty: Number | None = None
    no_repeat_ngram_size: Whole | None = None
    encoder_no_repeat_ngram_size: Whole | None = None
    bad_words_ids: list[list[Whole]] | None = None
    num_return_sequences: Count | None = None
    output_scores: Flag | None = None
    return_dict_in_generate: Flag | None = None
    forced_bos_token_id: Whole | None = None
    forced_eos_token_id: Whole | list[Whole] | None = None
    remove_invalid_values: Flag | None = None
    exponential_decay_length_penalty: list[Number] | None = None
    suppress_tokens: list[Whole] | None = None
    begin_suppress_tokens: list[Whole] | None = None


class ModelConfig:
    """Base of all families' configurations. A subclass names the two dataclasses, and says what fits together.

    Attributes:
        model_fields: the model's own fields, which are always saved.
        file_fields: all that a config.json may hold and that is checked: the model's, the host's, and older spellings.
        vision_part: the field that holds the vision tower's.
        parts: the fields that are objects; changing one of these on loading adds to the file's.
    """

    model_type: ClassVar[str]
    model_fields: ClassVar[type]
    file_fields: ClassVar[type]
    parts: ClassVar[tuple[str, ...]]
    vision_part: ClassVar[str] = "vision_config"

    def __init__(self, source: str | os.PathLike | None = None, /, **given):
        source = source or f"the arguments of {type(self).__name__}"
        given = self.flat(self._checked(given, source))
        values = checked(self.file_fields, given, source)
        for name in (field.name for field in fields(self.model_fields)):
            setattr(self, name, getattr(values, name) if given.get(name) is None else given[name])
        self._complete(values, given, source)
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
        config, unused = cls.from_dict(read_object(path), source=path, return_unused_kwargs=True, **kwargs)
        unsupported.refuse_quantised_folder(path.parent)
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

    def to_dict(self) -> dict:
        """The Hub's form."""
        kept = {name: value for name, value in vars(self).items() if value is not None}
        dtype = kept.pop("dtype", None)
        return {**kept, "model_type": self.model_type, "torch_dtype": dtype}

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
