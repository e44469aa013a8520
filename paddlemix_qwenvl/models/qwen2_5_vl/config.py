"""Configuration of Qwen2.5-VL, with the Hub's names and defaults."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.fields import checked, wrong
from paddlemix_qwenvl.models.config import ModelConfig, check_token_ids
from paddlemix_qwenvl.models.qwen2_5_vl.config_file import ConfigFile, Language, Rope, Vision, VisionFile
from paddlemix_qwenvl.models.qwen2_5_vl.sizes import SIZES

_ROPES = ("rope_scaling", "rope_parameters")
_DTYPES = ("dtype", "torch_dtype")
_NESTED_FIRST = {
    *(each.name for each in fields(Language)),
    *("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "use_cache"),
    *_ROPES,
}
_TOKENS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")


class Qwen2_5_VLVisionConfig:
    """The vision tower: a ViT with window attention everywhere but in `fullatt_block_indexes` (those beyond `depth` mean nothing).

    Sizes in pixels: `patch_size`, `window_size`. `tokens_per_second` scales a video's time positions.

    Args:
        source: where the fields come from, for messages.
        given: the fields of `file_fields`; others are left alone.

    Raises:
        ConfigurationError: values that no tower can have.
    """

    model_type = "qwen2_5_vl"

    model_fields, file_fields = Vision, VisionFile
    width_field, out_field = "hidden_size", "out_hidden_size"

    def __init__(self, source: str | os.PathLike | None = None, /, **given):
        source, given = source or f"the arguments of {type(self).__name__}", _one_name(given)
        values = checked(self.file_fields, given, source)
        for each in fields(self.model_fields):
            setattr(self, each.name, getattr(values, each.name))
        if self.width % self.num_heads or self.head_dim % 4:
            expected = f"a divisor of {self.width_field}, {self.width}, that leaves heads of a multiple of 4"
            raise wrong(source, "num_heads", self.num_heads, expected)
        if not self.window_tokens:
            least = self.spatial_merge_size * self.patch_size
            raise wrong(source, "window_size", self.window_size, f"at least spatial_merge_size * patch_size, {least}")

    def to_dict(self) -> dict:
        """The Hub's form."""
        return {**vars(self), "model_type": self.model_type}

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None

    @property
    def width(self) -> int:
        """Numbers of a patch in the tower."""
        return getattr(self, self.width_field)

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.width // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Numbers in one flattened patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def window_tokens(self) -> int:
        """Side of an attention window in merged tokens."""
        return self.window_size // self.spatial_merge_size // self.patch_size


class Qwen2_5_VLConfig(ModelConfig):
    """The whole model. Takes the Hub's flat form and the newer one with a nested `text_config`; writes the flat form.

    Args:
        source: where the fields come from, for messages.
        vision_config: a `Qwen2_5_VLVisionConfig` or its fields.
        text_config: the language model's fields, which go before flat ones.
        rope_scaling, rope_parameters: a `Rope`; the sections add up to half a head.
        vision_parallel: with several ranks, "tensor" splits the vision tower over them, "data" keeps it whole on each and
            deals the images out (docs/tensor_parallel.md).
        given: the other fields of `ConfigFile`, and whatever else the host is to keep.

    Raises:
        ConfigurationError: values that no Qwen2.5-VL model can have.
    """

    model_type = "qwen2_5_vl"
    model_fields, file_fields = Language, ConfigFile
    parts = ("rope_scaling", "vision_config")
    vision_class, sizes = Qwen2_5_VLVisionConfig, SIZES

    @classmethod
    def of_size(cls, size: str, **kwargs) -> Qwen2_5_VLConfig:
        """The Hub's configuration of a released checkpoint, such as "7B", changed by `kwargs`.

        Raises:
            ConfigurationError: any other size.
        """
        if size not in cls.sizes:
            raise ConfigurationError(f"size {size!r} is unknown: choose one of {', '.join(cls.sizes)}.")
        return cls(
            **{"torch_dtype": "bfloat16", "bos_token_id": 151643, "eos_token_id": 151645, **cls.sizes[size], **kwargs}
        )

    @classmethod
    def flat(cls, given: dict) -> dict:
        """Nested fields go before flat ones, which transformers 4.57 leaves behind when tokens are added."""
        text = _present(given.get("text_config") or {})
        flat = _present({name: value for name, value in given.items() if name != "text_config"})
        for names, first, other in ((_ROPES, text, flat), (_DTYPES, flat, text)):
            if any(map(first.get, names)):
                for name in names:
                    other.pop(name, None)
        flat = {**text, **flat, **{name: value for name, value in text.items() if name in _NESTED_FIRST}}
        rope = next(filter(None, [flat.pop(name, None) for name in _ROPES]), {})
        if rope:
            flat["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
            flat["rope_theta"] = rope.get("rope_theta") or flat.get("rope_theta", Language.rope_theta)
        if "vision_config" in flat:
            flat["vision_config"] = _one_name(flat["vision_config"])
        return flat

    def to_dict(self) -> dict:
        """The Hub's flat form."""
        return {**super().to_dict(), "vision_config": self.vision_config.to_dict()}

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def blocks(self) -> int:
        """Blocks of the language model and of the vision tower."""
        return self.num_hidden_layers + self.vision_config.depth

    def _complete(self, values: ConfigFile, given: dict, source: str | os.PathLike) -> None:
        within = f"{os.fspath(source)}: vision_config"
        self.vision_config = self.vision_class(within, **given.get("vision_config", {}))
        self.vision_parallel = values.vision_parallel
        self._check_heads(values, source)
        self.rope_scaling = {"type": "mrope", "mrope_section": self._sections(values.rope_scaling or Rope(), source)}
        out_field = self.vision_class.out_field
        out = getattr(self.vision_config, out_field)
        if out != self.hidden_size:
            expected = f"hidden_size, {self.hidden_size}: image features are put among the text embeddings"
            raise wrong(source, f"vision_config.{out_field}", out, expected)
        tokens = {name: getattr(self, name) for name in _TOKENS}
        for name, token in tokens.items():
            same = [other for other, its in tokens.items() if its == token and other != name]
            if same:
                raise wrong(source, name, token, f"another token than {same[0]}")
        named = (*_TOKENS, "vision_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
        check_token_ids(given, named, self.vocab_size, source)

    def _check_heads(self, values: ConfigFile, source: str | os.PathLike) -> None:
        heads, kv_heads = self.num_attention_heads, self.num_key_value_heads
        if self.hidden_size % heads or self.head_dim % 2:
            raise wrong(source, "num_attention_heads", heads, f"hidden_size {self.hidden_size} over heads of even size")
        if heads % kv_heads:
            raise wrong(source, "num_key_value_heads", kv_heads, f"a number that {heads} query heads share evenly")
        if values.head_dim not in (None, self.head_dim):
            raise wrong(source, "head_dim", values.head_dim, f"hidden_size / num_attention_heads, {self.head_dim}")

    def _sections(self, rope: Rope, source: str | os.PathLike) -> list[int]:
        half = self.head_dim // 2
        space = (half - self.head_dim // 8) // 2
        sections = rope.mrope_section or [half - 2 * space, space, space]
        if sum(sections) != half:
            expected = f"three numbers that add up to half the head size, {half}"
            raise wrong(source, "rope_scaling.mrope_section", sections, expected)
        return sections


def _present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _one_name(vision: dict[str, Any]) -> dict[str, Any]:
    """The fields of a vision tower with `in_channels` under this name."""
    vision = _present(vision)
    return {"in_channels": vision["in_chans"], **vision} if "in_chans" in vision else vision
