"""Configuration of Qwen-VL, with the Hub's names and defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from paddlemix_qwenvl.fields import Count, Flag, Share, Text, Whole, wrong
from paddlemix_qwenvl.models.config import (
    Deviation,
    Epsilon,
    HostFields,
    Layers,
    ModelConfig,
    Off,
    On,
    PatchSize,
    Vocabulary,
    Width,
    check_token_ids,
)

ENDOFTEXT_ID = 151643


@dataclass
class Visual:
    """The vision tower's fields. `<img>`, `</img>` and `<imgpad>` are `image_start_id` and the two ids after it; `n_queries` is
    the number of features of a picture."""

    heads: Width = 16
    image_size: Annotated[int, Field(strict=True, ge=1, le=4096)] = 448
    image_start_id: Whole = 151857
    layers: Layers = 48
    mlp_ratio: Annotated[float, Field(strict=True, gt=0, le=64)] = 4.9231
    output_dim: Width = 4096
    patch_size: PatchSize = 14
    width: Width = 1664
    n_queries: Annotated[int, Field(strict=True, ge=1, le=1024)] = 256


@dataclass
class Language:
    """The language model's fields; `intermediate_size` counts both halves of the SwiGLU."""

    vocab_size: Vocabulary = 151936
    hidden_size: Width = 4096
    intermediate_size: Annotated[int, Field(strict=True, ge=2, le=2**18, multiple_of=2)] = 22016
    num_hidden_layers: Layers = 32
    num_attention_heads: Width = 32
    kv_channels: Width = 128
    layer_norm_epsilon: Epsilon = 1e-6
    initializer_range: Deviation = 0.02
    max_position_embeddings: Count = 8192
    seq_length: Annotated[int, Field(strict=True, ge=2, le=2**31 - 1)] = 2048
    rotary_emb_base: Annotated[int, Field(strict=True, ge=1, le=2**40)] = 10000
    rotary_pct: Annotated[float, Field(strict=True, ge=1, le=1)] = 1.0
    use_dynamic_ntk: Flag = True
    use_logn_attn: Flag = True
    no_bias: Flag = True
    scale_attn_weights: On = True
    emb_dropout_prob: Share = 0.0
    attn_dropout_prob: Share = 0.0


@dataclass
class ConfigFile(Language, HostFields):
    """What a config.json may hold. `fp32`, `fp16` and `bf16` are the original's way to name the dtype."""

    architectures: list[Text] = field(default_factory=lambda: ["QWenLMHeadModel"])
    eos_token_id: Whole | list[Whole] = ENDOFTEXT_ID
    pad_token_id: Whole = ENDOFTEXT_ID
    tie_word_embeddings: Off = False
    visual: Visual = field(default_factory=Visual)
    fp32: Flag = False
    fp16: Flag = False
    bf16: Flag = False
    use_flash_attn: Flag | Literal["auto"] | None = None
    tokenizer_type: Text | None = None
    onnx_safe: Any = None


class QWenVLConfig(ModelConfig):
    """The whole model, as in the Hub's config.json.

    Args:
        source: where the fields come from, for messages.
        visual: the fields of `Visual`; `output_dim` is `hidden_size` if it is not given.
        given: the other fields of `ConfigFile`, and whatever else the host is to keep. `dtype` and `torch_dtype` go before
            `fp32`, `fp16` and `bf16`.

    Raises:
        ConfigurationError: values that no Qwen-VL model can have, or quantised weights.
    """

    model_type = "qwen"
    model_fields, file_fields = Language, ConfigFile
    parts = ("visual",)
    vision_part = "visual"

    @classmethod
    def refuse_others(cls, config: Mapping[str, Any], source: str | os.PathLike) -> None:
        """Text-only Qwen, too, which has the same `model_type`."""
        super().refuse_others(config, source)
        if config.get("visual") is None:
            raise wrong(source, "visual", None, "the vision tower's fields, which text-only Qwen does not have")

    @classmethod
    def flat(cls, given: dict) -> dict:
        """The dtype under its own name."""
        named = {"float32": given.get("fp32"), "float16": given.get("fp16"), "bfloat16": given.get("bf16")}
        dtypes = [given.get("dtype"), given.get("torch_dtype"), *(dtype for dtype, flag in named.items() if flag)]
        others = {name: value for name, value in given.items() if name not in ("fp32", "fp16", "bf16")}
        dtype = next(filter(None, dtypes), None)
        return {**others, "dtype": dtype} if dtype else others

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.kv_channels

    @property
    def patches(self) -> int:
        """Patches along one side of a picture."""
        return self.visual["image_size"] // self.visual["patch_size"]

    @property
    def blocks(self) -> int:
        """Blocks of the language model and of the vision tower."""
        return self.num_hidden_layers + self.visual["layers"]

    def _complete(self, values: ConfigFile, given: dict, source: str | os.PathLike) -> None:
        visual = {name: value for name, value in (given.get("visual") or {}).items() if value is not None}
        self.visual = {"output_dim": self.hidden_size, **visual}
        self.visual |= {name: value for name, value in asdict(values.visual).items() if name not in self.visual}
        if (
            self.num_attention_heads * self.kv_channels != self.hidden_size
            or self.kv_channels % 2
            or self.kv_channels < 4
        ):
            expected = (
                f"an even number, hidden_size / num_attention_heads, {self.hidden_size} / {self.num_attention_heads}"
            )
            raise wrong(source, "kv_channels", self.kv_channels, expected)
        self._check_visual(source)
        check_token_ids(given, ("bos_token_id", "eos_token_id", "pad_token_id"), self.vocab_size, source)
        if visual.get("image_start_id", 0) + 2 >= self.vocab_size:
            expected = f"three ids from it on below vocab_size, {self.vocab_size}"
            raise wrong(source, "visual.image_start_id", visual["image_start_id"], expected)

    def _check_visual(self, source: str | os.PathLike) -> None:
        visual, within = self.visual, f"{os.fspath(source)}: visual"
        if visual["output_dim"] != self.hidden_size or visual["output_dim"] % 128:
            expected = (
                f"hidden_size, {self.hidden_size}, and a multiple of 128, the width of one of the resampler's heads"
            )
            raise wrong(within, "output_dim", visual["output_dim"], expected)
        if visual["width"] % visual["heads"]:
            raise wrong(within, "heads", visual["heads"], f"a divisor of width, {visual['width']}")
        if visual["image_size"] % visual["patch_size"] or self.patches > 64:
            expected = f"up to 64 whole patches of patch_size, {visual['patch_size']}"
            raise wrong(within, "image_size", visual["image_size"], expected)
        if round(visual["n_queries"] ** 0.5) ** 2 != visual["n_queries"]:
            raise wrong(within, "n_queries", visual["n_queries"], "a square number")
