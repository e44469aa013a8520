"""A few files that stand for a stored model, and the variables that say where models are stored."""

import json

NAME = "someone/Qwen2.5-VL-answers"
INDEX = "model.safetensors.index.json"
SHARDS = ["model-1.safetensors", "model-2.safetensors"]
ENDPOINTS = {
    "paddlenlp": "PPNLP_ENDPOINT",
    "huggingface": "HF_ENDPOINT",
    "modelscope": "MODELSCOPE_ENDPOINT",
    "aistudio": "AISTUDIO_ENDPOINT",
}
HOMES = ("PPNLP_HOME", "HF_HUB_CACHE", "MODELSCOPE_CACHE", "AISTUDIO_HUB_CACHE")
UNSET = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "from_modelscope",
    "QWENVL_SOURCE",
    "DOWNLOAD_SOURCE",
    "MODELSCOPE_DOMAIN",
)


def write_model(folder, version=1):
    """A config, an index of two shards and a tokenizer's files, whose contents tell the version."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"version": version}))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_text(json.dumps({file: version}))
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True)), "version": version}))
    for shard in SHARDS:
        (folder / shard).write_bytes(bytes([version]) * 50_000 + shard.encode())
    return folder
