"""The language model of a checkpoint as a GGUF file for llama.cpp, written beside the checkpoint's files and kept.

    PYTHON benchmarks/gguf_file.py FOLDER DTYPE

PYTHON is an interpreter with gguf.
"""

import json
import struct
import sys
from pathlib import Path

import gguf
import numpy as np
from words import SPECIAL, token_texts, tokenizer_json

TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
}
TOKEN_TYPES = (gguf.TokenType.NORMAL, gguf.TokenType.CONTROL)
NAMES = {  # in a layer, Hub -> GGUF
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def gguf_name(name: str) -> str | None:
    """The tensor's name in a GGUF file, None for the vision tower's."""
    if name.startswith("model.layers."):
        layer, _, rest = name.removeprefix("model.layers.").partition(".")
        part, _, kind = rest.rpartition(".")
        return f"blk.{layer}.{NAMES[part]}.{kind}"
    return WHOLE.get(name)


def language_tensors(folder: Path):
    """`(name, float32 values)` of every tensor of the language model in bfloat16 safetensors files."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
            base = file.tell()
        for name, entry in header.items():
            if gguf_name(name):
                begin, end = entry["data_offsets"]
                bits = np.memmap(path, np.uint16, "r", base + begin, ((end - begin) // 2,))
                yield name, (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def write_gguf(folder: Path, dtype: str) -> Path:
    """The language model as architecture "qwen2" with the vocabulary of `words`; matrices in `dtype`, vectors float32."""
    path = folder / f"text-{dtype}.gguf"
    if path.exists():
        return path
    config = json.loads((folder / "config.json").read_text())
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "qwen2", use_temp_file=True)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    texts = token_texts(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(texts)
    writer.add_token_types([TOKEN_TYPES[number >= SPECIAL] for number in range(len(texts))])
    writer.add_token_merges(tokenizer_json()["model"]["merges"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    for name, values in language_tensors(folder):
        kind = TYPES[dtype] if values.ndim == 2 else TYPES["float32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)
    return path


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), sys.argv[2])
