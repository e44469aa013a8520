"""Files of models, and what is done with their folders once they are changed: see fuzz_settings.py."""

from __future__ import annotations

import json
from pathlib import Path

from fuzz_settings import Target

import paddlemix_qwenvl  # noqa: F401  (which makes the hosts know its models)


def load_config(folder: Path) -> None:
    """Config, model with its weights, one token."""
    from paddlenlp.transformers import AutoConfig

    AutoConfig.from_pretrained(str(folder))
    answer(folder)


def answer(folder: Path) -> None:
    """The model, and one token."""
    import paddle
    from paddlenlp.transformers import AutoModelForConditionalGeneration

    model = AutoModelForConditionalGeneration.from_pretrained(str(folder))
    model.generate(paddle.to_tensor([[1, 2, 3]]), max_new_tokens=1)


TARGETS = [
    Target("qwen2_5_vl", "config.json", load_config),
    Target("qwen_vl", "config.json", load_config),
    Target("qwen2_5_vl_nested", "config.json", load_config),
    Target("qwen2_5_vl", "generation_config.json", answer),
    Target("qwen_vl", "generation_config.json", answer),
    Target("qwen2_5_vl_sharded", "model.safetensors.index.json", answer),
    Target("adapter", "adapter_config.json", load_config),
]


def write_folders(root: Path) -> dict[str, Path]:
    """A small model of each family, in one file, in shards, and with a config as transformers 5 nests it; an adapter."""
    import hub_model
    import qwen_vl_model
    from reference.qwen_vl import qwen_vl_cases

    config = hub_model.config()
    tensors = hub_model.tensors(config)
    folders = {target.folder: root / target.folder for target in TARGETS}
    generation = {"do_sample": False, "temperature": 0.1, "top_k": 1, "top_p": 0.001, "repetition_penalty": 1.05}
    generation |= {"eos_token_id": [config["eos_token_id"], 1], "pad_token_id": 1, "max_new_tokens": 20}
    hub_model.write(folders["qwen2_5_vl"], config, tensors)
    hub_model.write(folders["qwen2_5_vl_nested"], nested(config), tensors)
    hub_model.write_shards(folders["qwen2_5_vl_sharded"], config, tensors, 3)
    for name in ("qwen2_5_vl", "qwen2_5_vl_nested", "qwen2_5_vl_sharded"):
        (folders[name] / "generation_config.json").write_text(json.dumps(generation))
        (folders[name] / "preprocessor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    folders["adapter"].mkdir()
    adapter = {
        "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct",
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["q"],
    }
    (folders["adapter"] / "adapter_config.json").write_text(json.dumps(adapter))
    folders["qwen_vl"].mkdir()
    config = qwen_vl_cases.CONFIGS["wide"]
    qwen_vl_model.write(folders["qwen_vl"], config, qwen_vl_cases.tensors(config))
    (folders["qwen_vl"] / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenVLTokenizer"}')
    return folders


def nested(config: dict) -> dict:
    """The form that transformers 5 writes."""
    top = ("architectures", "model_type", "vision_config", "image_token_id", "video_token_id", "tie_word_embeddings")
    text = {
        name: value for name, value in config.items() if name not in (*top, "rope_scaling", "rope_theta", "torch_dtype")
    }
    rope = {"mrope_section": config["rope_scaling"]["mrope_section"], "rope_type": "default", "rope_theta": 1e6}
    layers = ["full_attention"] * config["num_hidden_layers"]
    text |= {"rope_parameters": rope, "layer_types": layers, "sliding_window": None, "model_type": "qwen2_5_vl_text"}
    return {**{name: config[name] for name in top}, "dtype": "float32", "text_config": text}
