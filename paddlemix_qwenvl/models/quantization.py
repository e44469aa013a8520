"""What a config.json says of quantised weights: by which tool, which modules, and how they lie in the files.

It is read before any weight is there. Sources: transformers (`utils/quantization_config.py`, `quantizers/quantizers_utils.py`),
AutoAWQ (`models/_config.py`), GPTQModel (`quantization/config.py`: `dynamic`), compressed-tensors
(`quantization/quant_config.py`, `utils/match.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from paddlemix_qwenvl.fields import Always, Flag, Text, checked, wrong
from paddlemix_qwenvl.models.unsupported import quantised
from paddlemix_qwenvl.weights.groups import Awq, Gptq, Packed
from paddlemix_qwenvl.weights.layouts import HEAD, Bytes, Floats, Layout
from paddlemix_qwenvl.weights.order import GROUPS_OF

GroupSize = Annotated[int, Field(strict=True, ge=-1, le=2**18)]
"""Inputs that share a scale; -1 for all."""


def _word(*words: str) -> Any:
    """One of some words, in whichever case."""
    return Annotated[Literal[words], BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)]


@dataclass(frozen=True)
class Module:
    """A Linear layer of the Hub's model, which a tool may convert.

    Attributes:
        names: what it is called in versions of transformers, the shortest first.
        in_decoder: it is in a block of the language model.
    """

    names: tuple[str, ...]
    in_decoder: bool = True

    @property
    def is_head(self) -> bool:
        """Whether it is the output head."""
        return self.names[0] == HEAD

    def is_part_of(self, path: str) -> bool:
        """Whether `path`, which may lack its beginning, is the module or one above it."""
        return any(f".{path}." in f".{name}." or name.endswith(path) for name in self.names)

    def matches(self, pattern: str) -> bool:
        """Whether a regular expression matches the beginning of one of its names."""
        return any(re.match(pattern, name) for name in self.names)


@dataclass
class AwqFields:
    """AutoAWQ's; what is outside of the decoder's blocks it never converts."""

    bits: Literal[4] = 4
    group_size: GroupSize = 128
    version: _word("gemm") = "gemm"
    zero_point: Always = True
    modules_to_not_convert: list[Text] = field(default_factory=list)
    is_half_alone: ClassVar = True

    def group_sizes(self) -> list[int]:
        """All that occur."""
        return [self.group_size]

    def layout(self, module: Module) -> Layout | None:
        """How a module's weight lies; None where it is not converted."""
        kept = any(map(module.is_part_of, self.modules_to_not_convert))
        return None if kept or not module.in_decoder else Awq(_columns(self.group_size))


@dataclass
class GptqChange:
    """What `dynamic` may say of some modules."""

    bits: Literal[4, 8] | None = None
    group_size: GroupSize | None = None
    desc_act: Flag | None = None


@dataclass
class GptqFields:
    """AutoGPTQ's and GPTQModel's; what is outside of the decoder's blocks they convert only by name."""

    bits: Literal[4, 8] = 4
    group_size: GroupSize = 128
    desc_act: Flag = False
    static_groups: Flag = False
    sym: Flag = True
    checkpoint_format: _word("gptq", "gptq_v2") = "gptq"
    format: _word("gptq", "gptq_v2") | None = None
    lm_head: Flag = False
    dynamic: dict[Text, GptqChange] = field(default_factory=dict)
    modules_in_block_to_quantize: list[list[Text]] = field(default_factory=list)
    is_half_alone: ClassVar = False

    def group_sizes(self) -> list[int]:
        """All that occur."""
        changes = [change.group_size for change in self.dynamic.values()]
        return [self.group_size, *(size for size in changes if size is not None)]

    def layout(self, module: Module) -> Layout | None:
        """As in `AwqFields`. The first pattern of `dynamic` that matches counts; one with a minus keeps the module as it is."""
        inside = [path for paths in self.modules_in_block_to_quantize for path in paths]
        if inside and not any(map(module.is_part_of, inside)) and not module.is_head:
            return None
        if not (module.in_decoder or (module.is_head and self.lm_head)):
            return None
        change = GptqChange()
        for pattern, said in self.dynamic.items():
            if module.matches(re.sub(r"^[+-]:", "", pattern)):
                if pattern.startswith("-:"):
                    return None
                change = said
                break
        size = self.group_size if change.group_size is None else change.group_size
        orders = self.desc_act if change.desc_act is None else change.desc_act
        version = 2 if "gptq_v2" in (self.format, self.checkpoint_format) else 1
        return Gptq(_columns(size), not self.sym, orders and not self.static_groups, change.bits or self.bits, version)


@dataclass
class Numbers:
    """How compressed-tensors quantises a weight."""

    num_bits: Literal[4, 8] = 8
    type: _word("int", "float") = "int"
    symmetric: Flag = True
    strategy: _word("tensor", "channel", "group") | None = None
    group_size: GroupSize | None = None
    actorder: Flag | _word("weight", "static", "group", "dynamic") | None = None


@dataclass
class Group:
    """Modules that compressed-tensors quantises alike."""

    targets: list[Text]
    weights: Numbers | None = None
    format: Text | None = None


@dataclass
class CompressedFields:
    """compressed-tensors'."""

    config_groups: Annotated[dict[Text, Group], Field(min_length=1)] = field(default_factory=dict)
    format: Text = "pack-quantized"
    ignore: list[Text] = field(default_factory=list)
    is_half_alone: ClassVar = False

    def group_sizes(self) -> list[int]:
        """All that occur."""
        weights = [group.weights for group in self.config_groups.values() if group.weights]
        return [
            -1 if each.group_size is None else each.group_size
            for each in weights
            if each.group_size is not None or each.num_bits == 4
        ]

    def layout(self, module: Module) -> Layout | None:
        """As in `AwqFields`. Names go before classes."""
        if _named(module, self.ignore) or "Linear" in self.ignore:
            return None
        for fits in (lambda targets: _named(module, targets), lambda targets: "Linear" in targets):
            for group in self.config_groups.values():
                if group.weights is not None and fits(group.targets):
                    return self.laid(group)
        return None

    def laid(self, group: Group) -> Layout | None:
        """How the weights of a group lie; None where this package has no such layout."""
        numbers, form = group.weights, group.format or self.format
        strategy = numbers.strategy or ("tensor" if numbers.group_size is None else "group")
        kind = numbers.type, numbers.num_bits
        symmetric_or_4 = numbers.symmetric or numbers.num_bits == 4
        if form == "pack-quantized" and numbers.type == "int" and strategy != "tensor" and symmetric_or_4:
            size = None if strategy == "channel" else _columns(numbers.group_size or -1)
            orders = numbers.actorder in ("group", "dynamic", True)
            return Packed(size, not numbers.symmetric, orders, numbers.num_bits)
        layout = {("int-quantized", "int", 8): Bytes, ("float-quantized", "float", 8): Floats}.get((form, *kind))
        if form == "naive-quantized":
            layout = {("int", 8): Bytes, ("float", 8): Floats}.get(kind)
        fits = layout is not None and numbers.symmetric and strategy in ("tensor", "channel")
        return layout(strategy == "channel") if fits else None


FIELDS = {"awq": AwqFields, "gptq": GptqFields, "compressed-tensors": CompressedFields}
_OLDER = {"w_bit": "bits", "q_group_size": "group_size"}  # AutoAWQ's own names


@dataclass(frozen=True)
class Quantization:
    """The `quantization_config` of a checkpoint.

    Attributes:
        method: the tool's name, as `quant_method` has it.
        settings: as the file has them.
    """

    method: str
    settings: Mapping[str, Any]
    fields: AwqFields | GptqFields | CompressedFields

    def layout(self, module: Module) -> Layout | None:
        """How a module's weight lies; None where it is not quantised."""
        return self.fields.layout(module)

    @property
    def unit(self) -> int:
        """Inputs of a layer that one rank takes together: those of a group."""
        sizes = self.fields.group_sizes()
        return max([1, *(GROUPS_OF if size == -1 else size for size in sizes)])


def read(settings: Mapping[str, Any], place: str) -> Quantization:
    """The quantisation that a config.json names.

    Args:
        place: where it is said, for messages.

    Raises:
        ConfigurationError: a method that cannot be loaded, or one of a kind that cannot.
    """
    method = settings.get("quant_method")
    kind = FIELDS.get(method.lower()) if isinstance(method, str) else None
    if kind is None:
        raise quantised(settings, "", place)
    given = {_OLDER.get(name, name): value for name, value in settings.items()}
    found = checked(kind, given, place)
    if (
        isinstance(found, GptqFields)
        and not found.sym
        and 8 in (found.bits, *(each.bits for each in found.dynamic.values()))
    ):
        raise wrong(place, "sym", False, "true, where numbers have 8 bits")
    if isinstance(found, CompressedFields):
        _check_groups(found, settings, place)
    for size in found.group_sizes():
        if size == 0 or (size > 1 and size % GROUPS_OF):
            raise wrong(place, "group_size", size, f"a multiple of {GROUPS_OF}, or -1 for one group of all inputs")
    return Quantization(method.lower(), dict(settings), found)


def _check_groups(found: CompressedFields, settings: Mapping[str, Any], place: str) -> None:
    """Raises ConfigurationError for what compressed-tensors can do besides, and is not read."""
    for key in ("kv_cache_scheme", "transform_config"):
        if settings.get(key):
            raise wrong(place, key, settings[key], "none: only quantised weights are read")
    sparsity = settings.get("sparsity_config") or {}
    if sparsity.get("format", "dense") != "dense" if isinstance(sparsity, Mapping) else sparsity:
        raise wrong(place, "sparsity_config", sparsity, 'none, or the format "dense"')
    for name, group in found.config_groups.items():
        if group.weights is not None and found.laid(group) is None:
            said = f"{group.format or found.format} of {vars(group.weights)}"
            raise wrong(place, f"config_groups.{name}", said, _LAID)


_LAID = '"pack-quantized" a channel or group, "int-" or "float-quantized" a channel or tensor, each symmetric where it has 8 bits'


def _named(module: Module, patterns: list[str]) -> bool:
    """Whether one of compressed-tensors' names, or regular expressions after "re:", means a module."""
    expressions = [pattern.removeprefix("re:") for pattern in patterns if pattern.startswith("re:")]
    return any(name in patterns for name in module.names) or any(map(module.matches, expressions))


def _columns(group_size: int) -> int | None:
    return None if group_size == -1 else group_size
