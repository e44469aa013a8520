"""Configuration of Qwen2.5-VL, with the Hub's names and defaults."""

from __future__ import annotations

import re

from paddlenlp.transformers import PretrainedConfig

from paddlemix_qwenvl.errors import ConfigurationError

VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "hidden_act": "silu",
    "intermediate_size": 3420,
    "num_heads": 16,
    "in_channels": 3,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "tokens_per_second": 2,
    "window_size": 112,
    "out_hidden_size": 3584,
    "fullatt_block_indexes": (7, 15, 23, 31),
}

LANGUAGE = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 128000,
    "initializer_range": 0.02,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 28,
    "attention_dropout": 0.0,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "vision_token_id": 151654,
    "image_token_id": 151655,
    "video_token_id": 151656,
}

_SIZES = {
    "3B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "max_window_layers": 70,
        "tie_word_embeddings": True,
        "vision_config": {"out_hidden_size": 2048},
    },
    "7B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
        "max_window_layers": 28,
        "vision_config": {"out_hidden_size": 3584},
    },
    "72B": {
        "hidden_size": 8192,
        "intermediate_size": 29568,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "vocab_size": 152064,
        "max_window_layers": 80,
        "vision_config": {"out_hidden_size": 8192, "intermediate_size": 3456},
    },
}


def known_size(name: str) -> str | None:
    """ "3B", "7B" or "72B" where `name` is that or the Hub's name of that checkpoint."""
    match = re.fullmatch(r"(?:Qwen/Qwen2\.5-VL-)?(\d+B)(?:-Instruct)?", name)
    return match[1] if match and match[1] in _SIZES else None


class Qwen2_5_VLVisionConfig(PretrainedConfig):
    """The vision tower: a ViT with window attention everywhere but in `fullatt_block_indexes`.

    Sizes in pixels: `patch_size`, `window_size`. `tokens_per_second` scales a video's time positions.
    """

    model_type = "qwen2_5_vl"

    def __init__(self, **kwargs):
        # Both names occur in Hub files.
        if "in_chans" in kwargs:
            kwargs["in_channels"] = kwargs.pop("in_chans")
        for name, value in VISION.items():
            setattr(self, name, kwargs.pop(name, list(value) if isinstance(value, tuple) else value))
        super().__init__(**kwargs)
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 4:
            raise ConfigurationError(
                f"vision hidden_size {self.hidden_size} over {self.num_heads} heads gives no head size that 2D rotary positions "
                f"can use: it must be a whole multiple of 4."
            )
        if self.hidden_act != "silu":
            raise ConfigurationError(f"vision hidden_act {self.hidden_act!r} is unknown here: Qwen2.5-VL uses 'silu'.")

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_heads

    @property
    def patch_dim(self) -> int:
        """Numbers in one flattened patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def window_tokens(self) -> int:
        """Side of an attention window in merged tokens."""
        return self.window_size // self.spatial_merge_size // self.patch_size


class Qwen2_5_VLConfig(PretrainedConfig):
    """The whole model. Takes the Hub's flat form and the newer one with a nested `text_config`; writes the flat form.

    Args:
        vision_config: a `Qwen2_5_VLVisionConfig` or its fields.
        text_config: the language model's fields, where they are not given flat; flat ones go first.
        rope_scaling: `{"type" | "rope_type": "mrope" | "default", "mrope_section": [time, row, column]}`; the sections count
            rotary frequencies and add up to half a head.
        vision_parallel: with several ranks, "tensor" splits the vision tower over them, "data" keeps it whole on each and
            deals the images out (docs/tensor_parallel.md).
        kwargs: the fields of `LANGUAGE`, and the host's.

    Raises:
        ConfigurationError: values that no Qwen2.5-VL model can have.
    """

    model_type = "qwen2_5_vl"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  (the host's own name and type)

    def __init__(
        self,
        vision_config: dict | Qwen2_5_VLVisionConfig | None = None,
        text_config: dict | None = None,
        rope_scaling: dict | None = None,
        vision_parallel: str = "tensor",
        **kwargs,
    ):
        kwargs = {**(text_config or {}), **kwargs}
        rope_scaling = rope_scaling or kwargs.pop("rope_scaling", None)
        if "rope_parameters" in kwargs:  # transformers 5 puts the base beside the sections
            rope_scaling = kwargs.pop("rope_parameters")
            kwargs["rope_theta"] = rope_scaling.get("rope_theta", LANGUAGE["rope_theta"])
        for name in ("rope_scaling", "model_type"):
            kwargs.pop(name, None)
        for name, value in LANGUAGE.items():
            setattr(self, name, kwargs.pop(name, value))
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        if not isinstance(vision_config, Qwen2_5_VLVisionConfig):
            vision_config = Qwen2_5_VLVisionConfig(**(vision_config or {}))
        self.vision_config = vision_config
        self.vision_parallel = vision_parallel
        self._check()
        self.rope_scaling = _mrope(rope_scaling, self.head_dim)
        kwargs.setdefault("tie_word_embeddings", False)
        kwargs.setdefault("use_cache", True)
        kwargs.setdefault("return_dict", True)
        kwargs.setdefault("architectures", ["Qwen2_5_VLForConditionalGeneration"])
        super().__init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As the host's, but `kwargs` that change fields go through the same checks; a `vision_config` adds to the file's.

        Raises:
            ConfigurationError: the fields are another kind of model's, or no model's.
        """
        kind = config_dict.get("model_type", cls.model_type)
        if kind != cls.model_type:
            raise ConfigurationError(
                f"config.json says model_type {kind!r}, this class loads {cls.model_type!r}: let an Auto class choose, "
                f"AutoModel.from_pretrained(...) of paddlenlp.transformers."
            )
        changed = {name: kwargs.pop(name) for name in (*LANGUAGE, "rope_scaling", "vision_config") if name in kwargs}
        if isinstance(changed.get("vision_config"), dict):
            changed["vision_config"] = {**config_dict.get("vision_config", {}), **changed["vision_config"]}
        return super().from_dict({**config_dict, **changed}, **kwargs)

    @classmethod
    def of_size(cls, size: str, **kwargs) -> Qwen2_5_VLConfig:
        """The Hub's configuration of the "3B", "7B" or "72B" checkpoint, changed by `kwargs`.

        Raises:
            ConfigurationError: any other size.
        """
        if size not in _SIZES:
            raise ConfigurationError(f"size {size!r} is unknown: choose one of {', '.join(_SIZES)}.")
        return cls(
            **{"torch_dtype": "bfloat16", "bos_token_id": 151643, "eos_token_id": 151645, **_SIZES[size], **kwargs}
        )

    def to_dict(self, saving_file: bool = False) -> dict:
        """The Hub's flat form."""
        fields = super().to_dict(saving_file=saving_file)
        fields["vision_config"] = {name: getattr(self.vision_config, name) for name in VISION}
        fields["vision_config"]["model_type"] = self.vision_config.model_type
        fields["torch_dtype"] = fields.pop("dtype", None)
        return fields

    def to_diff_dict(self, saving_file: bool = False) -> dict:
        """What is saved: the host leaves out what equals our defaults, but other readers have other defaults."""
        fields = self.to_dict(saving_file=saving_file)
        always = [*LANGUAGE, "rope_scaling", "vision_config", "tie_word_embeddings", "torch_dtype"]
        return {**super().to_diff_dict(saving_file=saving_file), **{name: fields[name] for name in always}}

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads

    def _check(self) -> None:
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise ConfigurationError(
                f"hidden_size {self.hidden_size} cannot be split into {self.num_attention_heads} heads of even size."
            )
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigurationError(
                f"{self.num_attention_heads} query heads cannot share {self.num_key_value_heads} key-value heads evenly."
            )
        if self.hidden_act != "silu":
            raise ConfigurationError(f"hidden_act {self.hidden_act!r} is unknown here: Qwen2.5-VL uses 'silu'.")
        if self.use_sliding_window:
            raise ConfigurationError("use_sliding_window is true, which no released Qwen2.5-VL uses: set it to false.")
        if self.vision_config.out_hidden_size != self.hidden_size:
            raise ConfigurationError(
                f"vision_config.out_hidden_size is {self.vision_config.out_hidden_size} but hidden_size is {self.hidden_size}: "
                f"image features are put among the text embeddings and must have the same width."
            )


def _mrope(rope_scaling: dict | None, head_dim: int) -> dict:
    """`rope_scaling` under the Hub's first name, with the sections spelt out."""
    given = dict(rope_scaling or {})
    kind = given.get("type") or given.get("rope_type") or "mrope"
    if kind not in ("mrope", "default"):
        raise ConfigurationError(f"rope_scaling type {kind!r} is unknown here: Qwen2.5-VL uses 'mrope' ('default').")
    time = head_dim // 8
    space = (head_dim // 2 - time) // 2
    section = list(given.get("mrope_section") or [head_dim // 2 - 2 * space, space, space])
    if len(section) != 3 or sum(section) != head_dim // 2 or min(section) < 0:
        raise ConfigurationError(
            f"rope_scaling.mrope_section {section} must be three numbers that add up to half the head size, {head_dim // 2}."
        )
    return {"type": "mrope", "mrope_section": section}
