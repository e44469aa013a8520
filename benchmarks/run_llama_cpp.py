"""Times llama.cpp on the language model of a checkpoint: `run_llama_cpp.py FOLDER INPUTS DTYPE THREADS TOKENS REPEATS`, for
compare_llama_cpp.py. The GGUF file is written beside the checkpoint's files and kept.
"""

import json
import struct
import sys
from importlib.metadata import version
from pathlib import Path

import gguf
import llama_cpp as llama
import numpy as np
from measure import loaded, report, timed

TYPES = {
    "float32": gguf.GGMLQuantizationType.F32,
    "bfloat16": gguf.GGMLQuantizationType.BF16,
    "int8": gguf.GGMLQuantizationType.Q8_0,
}
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
    """The language model as architecture "qwen2", without a vocabulary; matrices in `dtype`, vectors in float32."""
    path = folder / f"language-{dtype}.gguf"
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
    writer.add_tokenizer_model("none")
    for name, values in language_tensors(folder):
        kind = TYPES[dtype] if values.ndim == 2 else TYPES["float32"]
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)
    return path


def open_model(path: Path, context: int, threads: int):
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_batch = context, context
    parameters.n_threads = parameters.n_threads_batch = threads
    model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    return llama.llama_init_from_model(model, parameters)


def next_token(context, ids: list[int], vocabulary: int) -> int:
    """Run `ids` on what the context holds; the likeliest token after them."""
    tokens = (llama.llama_token * len(ids))(*ids)  # the batch only points to it
    if llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(ids))):
        raise SystemExit("llama_decode failed")
    return int(np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocabulary,)).argmax())


def main(folder: str, inputs: str, dtype: str, threads: str, tokens: str, repeats: str) -> None:
    ids, count = np.load(inputs)["input_ids"][0].tolist(), int(tokens)
    vocabulary = json.loads((Path(folder) / "config.json").read_text())["vocab_size"]
    path = write_gguf(Path(folder), dtype)
    load, context = loaded(lambda: open_model(path, len(ids) + count, int(threads)))
    runs = []
    for _ in range(int(repeats) + 1):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        prefill, token = timed(lambda: next_token(context, ids, vocabulary))
        answer = [token]

        def decode(answer=answer):
            while len(answer) < count:
                answer.append(next_token(context, answer[-1:], vocabulary))

        seconds, _ = timed(decode)
        runs.append({"vision": 0.0, "prefill": prefill, "decode": seconds / (count - 1)})
    report({"llama-cpp-python": version("llama-cpp-python"), "threads": threads}, load, runs[1:], answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
