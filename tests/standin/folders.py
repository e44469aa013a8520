"""Model folders as far as a registry reads them."""

import json
from pathlib import Path

QWEN2_5_VL = {
    "config.json": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "hidden_size": 2048,
        "vision_config": {"hidden_size": 1280},
    },
    "preprocessor_config.json": {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    },
    "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"},
}
QWEN2 = {
    "config.json": {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 24},
    "tokenizer_config.json": {"tokenizer_class": "Qwen2Tokenizer"},
}
QWEN = {"config.json": {"architectures": ["QWenLMHeadModel"], "model_type": "qwen", "hidden_size": 24}}
QWEN_VL = {"config.json": {**QWEN["config.json"], "visual": {"width": 1664}}}


def write(folder: Path, files: dict[str, dict]) -> str:
    """Make `folder` with these JSON files; gives its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return str(folder)
