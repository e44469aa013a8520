"""Writes the tokenizer and processor files of a Qwen2.5-VL folder, as the Hub lays them out, from the real vocabulary.

The ranks are those of `qwen.tiktoken`, which the package `dashscope` ships (`pip install --no-deps dashscope==2.0.2`; the
package is never imported, only the file is read). `python tokenizer_files.py FOLDER [--ranks N]` writes the real vocabulary,
or a small one: the first N ranks, with the special tokens moved to N and up. Needs nothing but Python.
"""

import argparse
import base64
import importlib.util
import json
import os
from pathlib import Path

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Added to the vocabulary, but kept when special tokens are skipped in decoding.
ADDED_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = "".join(
    (
        "{% macro vision(name, number, pad) %}{% if add_vision_id %}{{ name }} {{ number }}: {% endif %}",
        "<|vision_start|>{{ pad }}<|vision_end|>{% endmacro %}",
        "{% set seen = namespace(images=0, videos=0) %}",
        "{% if messages and messages[0]['role'] != 'system' %}",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}",
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n",
        "{% if message['content'] is string %}{{ message['content'] }}",
        "{% else %}{% for part in message['content'] %}",
        "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}",
        "{% set seen.images = seen.images + 1 %}{{ vision('Picture', seen.images, '<|image_pad|>') }}",
        "{% elif part['type'] == 'video' or 'video' in part %}",
        "{% set seen.videos = seen.videos + 1 %}{{ vision('Video', seen.videos, '<|video_pad|>') }}",
        "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}",
        "{{ '<|im_end|>\n' }}{% endfor %}",
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    )
)


def read_ranks(count: int | None = None) -> dict[bytes, int]:
    """The byte-pair ranks of Qwen's vocabulary, all 151 643 or the first `count` (at least 256: the single bytes)."""
    spec = importlib.util.find_spec("dashscope")
    if spec is None:
        raise FileNotFoundError("qwen.tiktoken was not found; run: pip install --no-deps dashscope==2.0.2")
    lines = (Path(spec.submodule_search_locations[0]) / "resources" / "qwen.tiktoken").read_bytes().split(b"\n")
    pairs = (line.split() for line in lines[:count] if line.strip())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def byte_alphabet() -> list[str]:
    """One printable character a byte, as GPT-2's byte-level BPE writes them (openai/gpt-2, `bytes_to_unicode`)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


def last_merge(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    """The two parts that BPE is left with just before it would form `token`."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(parts[i] + parts[i + 1], len(ranks)) for i in range(len(parts) - 1)]
        best = min(range(len(joined)), key=joined.__getitem__)
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def special_token_ids(rank_count: int) -> dict[str, int]:
    """Ids of the special and added tokens in a vocabulary of `rank_count` ranks: they follow the last rank."""
    return {token: rank_count + i for i, token in enumerate(SPECIAL_TOKENS + ADDED_TOKENS)}


def config_ids(ids: dict[str, int]) -> dict[str, int]:
    """The fields of a config that name special tokens."""
    names = {
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|im_end|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
        "vision_token_id": "<|vision_pad|>",
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
    }
    return {name: ids[token] for name, token in names.items()}


def tokenizer_json(vocab: dict[str, int], merges: list[str], added: list[dict]) -> dict:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT_PATTERN}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def tokenizer_config(added: list[dict]) -> dict:
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added},
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def preprocessor_config(min_pixels: int, max_pixels: int) -> dict:
    return {
        "min_pixels": min_pixels,
        "max_pixels": max_pixels,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }


def generation_config(ids: dict[str, int]) -> dict:
    return {
        "bos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
        "repetition_penalty": 1.05,
        "temperature": 0.000001,
        "transformers_version": "4.49.0",
    }


def write_text(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8", newline="\n")
    os.replace(temporary, path)


def write_tokenizer_files(
    folder: str | Path, rank_count: int | None = None, min_pixels: int = 3136, max_pixels: int = 12845056
) -> dict[str, int]:
    """Write vocabulary, merges, template, image-processor and generation settings into `folder`.

    `rank_count` cuts the vocabulary down to its first ranks; `None` writes the real one. `min_pixels` and `max_pixels` go
    into preprocessor_config.json. Returns the ids of the special tokens, which a model's config has to name.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = read_ranks(rank_count)
    alphabet = byte_alphabet()
    text_of = {token: "".join(alphabet[byte] for byte in token) for token in ranks}
    vocab = {text_of[token]: rank for token, rank in ranks.items()}
    merges = [" ".join(text_of[part] for part in last_merge(token, ranks)) for token in ranks if len(token) > 1]
    ids = special_token_ids(len(ranks))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = [{"id": i, "content": token, **flags, "special": token in SPECIAL_TOKENS} for token, i in ids.items()]

    files = {
        "vocab.json": vocab,
        "tokenizer.json": tokenizer_json(vocab, merges, added),
        "tokenizer_config.json": tokenizer_config(added),
        "chat_template.json": {"chat_template": CHAT_TEMPLATE},
        "preprocessor_config.json": preprocessor_config(min_pixels, max_pixels),
        "generation_config.json": generation_config(ids),
    }
    for name, content in files.items():
        layout = {"separators": (",", ":")} if name in ("vocab.json", "tokenizer.json") else {"indent": 2}
        write_text(folder / name, json.dumps(content, ensure_ascii=False, **layout))
    write_text(folder / "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    return ids


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--ranks", type=int, help="keep only the first RANKS entries of the vocabulary")
    arguments = parser.parse_args()
    print(json.dumps(write_tokenizer_files(arguments.folder, arguments.ranks), indent=2))
