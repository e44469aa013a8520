"""Qwen-VL (arXiv:2308.12966), the first generation."""

from paddlemix_qwenvl.models.family import Family, names_class

FAMILY = Family(
    name="qwen_vl",
    title="Qwen-VL",
    model_type="qwen",
    classes={
        "config": ("config", "QWenVLConfig"),
        "model": ("model", "QWenLMHeadModel"),
        "tokenizer": ("tokenizer", "QWenVLTokenizer"),
        "processor": ("processor", "QWenVLProcessor"),
    },
    # Text-only Qwen shares model type and architecture.
    claims=lambda content: (
        (
            content.get("visual") is not None
            and (content.get("model_type") == "qwen" or names_class(content, "QWenLMHeadModel"))
        )
        or names_class(content, "QWenVLTokenizer", "QWenVLProcessor")
    ),
    hub_names=("Qwen/Qwen-VL", "qwen-vl/qwen-vl-"),
)
