"""Configuration of Qwen-VL, with the Hub's names and defaults."""

from __future__ import annotations

from paddlenlp.transformers import PretrainedConfig

from paddlemix_qwenvl.errors import ConfigurationError

LANGUAGE = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-6,
    "initializer_range": 0.02,
    "max_position_embeddings": 8192,
    "seq_length": 2048,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "no_bias": True,
    "scale_attn_weights": True,
    "emb_dropout_prob": 0.0,
    "attn_dropout_prob": 0.0,
}

VISUAL = {
    "heads": 16,
    "image_size": 448,
    "image_start_id": 151857,
    "layers": 48,
    "mlp_ratio": 4.9231,
    "output_dim": 4096,
    "patch_size": 14,
    "width": 1664,
    "n_queries": 256,
}

ENDOFTEXT_ID = 151643


class QWenVLConfig(PretrainedConfig):
    """The whole model, as in the Hub's config.json.

    Args:
        visual: the vision tower, fields of `VISUAL`. `<img>`, `</img>` and `<imgpad>` are `image_start_id` and the two ids
            after it; `n_queries` is the number of features of a picture.
        fp32, fp16, bf16: the original's way to name the dtype; `dtype` and `torch_dtype` go first.
        kwargs: the fields of `LANGUAGE`, and the host's. `intermediate_size` counts both halves of the SwiGLU.

    Raises:
        ConfigurationError: values that no Qwen-VL model can have, GPTQ weights among them.
    """

    model_type = "qwen"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012  (the host's own name and type)

    def __init__(
        self, visual: dict | None = None, fp32: bool = False, fp16: bool = False, bf16: bool = False, **kwargs
    ):
        quantization = kwargs.pop("quantization_config", None)
        if isinstance(quantization, dict) and quantization.get("quant_method"):
            raise ConfigurationError(
                f"quantization_config says {quantization['quant_method']!r} with {quantization.get('bits')} bits, as in "
                f"Qwen/Qwen-VL-Chat-Int4: GPTQ weights cannot be loaded. Load Qwen/Qwen-VL-Chat instead, with "
                f'quantization="int8" where memory is short.'
            )
        for name, value in LANGUAGE.items():
            setattr(self, name, kwargs.pop(name, value))
        self.visual = {**VISUAL, "output_dim": self.hidden_size, **(visual or {})}
        flags = {"float32": fp32, "float16": fp16, "bfloat16": bf16}
        named = next((dtype for dtype, flag in flags.items() if flag), None)
        if named and not kwargs.get("dtype") and not kwargs.get("torch_dtype"):
            kwargs["dtype"] = named
        kwargs.pop("model_type", None)
        kwargs.setdefault("tie_word_embeddings", False)
        kwargs.setdefault("use_cache", True)
        kwargs.setdefault("return_dict", True)
        kwargs.setdefault("architectures", ["QWenLMHeadModel"])
        kwargs.setdefault("eos_token_id", ENDOFTEXT_ID)
        kwargs.setdefault("pad_token_id", ENDOFTEXT_ID)
        super().__init__(**kwargs)
        self._check()

    def to_dict(self, saving_file: bool = False) -> dict:
        """The Hub's form."""
        fields = super().to_dict(saving_file=saving_file)
        fields["torch_dtype"] = fields.pop("dtype", None)
        return fields

    def to_diff_dict(self, saving_file: bool = False) -> dict:
        """What is saved: the host leaves out what equals our defaults, but other readers have other defaults."""
        fields = self.to_dict(saving_file=saving_file)
        always = [*LANGUAGE, "visual", "tie_word_embeddings", "torch_dtype", "architectures", "model_type"]
        return {**super().to_diff_dict(saving_file=saving_file), **{name: fields[name] for name in always}}

    @property
    def head_dim(self) -> int:
        """Width of an attention head."""
        return self.kv_channels

    @property
    def patches(self) -> int:
        """Patches along one side of a picture."""
        return self.visual["image_size"] // self.visual["patch_size"]

    def _check(self) -> None:
        visual = self.visual
        if self.num_attention_heads * self.kv_channels != self.hidden_size:
            raise ConfigurationError(
                f"{self.num_attention_heads} heads of kv_channels {self.kv_channels} do not add up to hidden_size "
                f"{self.hidden_size}."
            )
        if visual["output_dim"] != self.hidden_size or visual["output_dim"] % 128:
            raise ConfigurationError(
                f"visual.output_dim is {visual['output_dim']}: it must be hidden_size, {self.hidden_size}, and a multiple of 128, "
                f"the width of one of the resampler's heads."
            )
        if visual["width"] % visual["heads"]:
            raise ConfigurationError(f"visual.width {visual['width']} cannot be split into {visual['heads']} heads.")
        if visual["image_size"] % visual["patch_size"]:
            raise ConfigurationError(
                f"visual.image_size {visual['image_size']} is not a whole number of patches of {visual['patch_size']} pixels."
            )
        if round(visual["n_queries"] ** 0.5) ** 2 != visual["n_queries"]:
            raise ConfigurationError(f"visual.n_queries is {visual['n_queries']}: it must be a square number.")
        if self.rotary_pct != 1.0:
            raise ConfigurationError(
                f"rotary_pct is {self.rotary_pct}: every released Qwen-VL rotates whole heads (1.0)."
            )
        if self.tie_word_embeddings:
            raise ConfigurationError("tie_word_embeddings is true, which no released Qwen-VL uses: set it to false.")
