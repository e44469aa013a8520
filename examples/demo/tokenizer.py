"""The demo checkpoint's tokenizer: a vocabulary of a few hundred tokens in the layout of Qwen2's tokenizer class.

All 256 bytes are tokens, so any text encodes; a digit is one token, as in the real vocabulary; the words of the scenes are
merged into one token each, and the fixed parts of an answer with boxes are added tokens. Template and layout of the files
are those of the real checkpoints and live in tests/reference/tokenizer_files.py.
"""

import json
import sys
from itertools import pairwise
from pathlib import Path

import scenes
from tokenizers import Regex, pre_tokenizers

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "reference"))
import tokenizer_files as hub

BOX_TOKENS = ('```json\n[\n\t{"bbox_2d": [', '], "label": "', '"},\n\t{"bbox_2d": [', '"}\n]\n```', ", ")
OTHER_WORDS = "system user assistant You are a helpful assistant please Please Is there tell me Tell Show show"
MAX_PIXELS = 336 * 336


def corpus_words() -> list[str]:
    """Every word of the questions and answers, with its leading space where it has one, in order of first use."""
    targets = [scenes.Target(color, kind) for color in (None, *scenes.COLORS) for kind in (None, *scenes.SHAPES)]
    texts = [f"{word} {word}" for word in (*OTHER_WORDS.split(), *scenes.NUMBER_WORDS, "an", "and")]
    texts += [f"{target.one} {target.one} {target.many} {target.many}" for target in targets]
    texts += [wording.format(one="", many="", chinese=" ") for group in scenes.QUESTIONS.values() for wording in group]
    texts += [*scenes.CHINESE.values()]
    texts += ["的 形状", *scenes.WORDS, "0 and 1, so the first image.", "so the second image.", "so neither."]
    splitter = pre_tokenizers.Split(Regex(hub.SPLIT_PATTERN), "isolated")
    return list(dict.fromkeys(piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)))


def apply_merges(parts: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: the earliest learnt merge first (Sennrich et al. 2016, algorithm 1)."""
    while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
        at = list(pairwise(parts)).index(min(pairs, key=ranks.__getitem__))
        parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]
    return parts


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> id, and merges that make one token of each word: what earlier merges leave of it is joined from the left."""
    alphabet = hub.byte_alphabet()
    vocab = {character: byte for byte, character in enumerate(alphabet)}
    ranks = {}
    for word in corpus_words():
        token, *rest = apply_merges([alphabet[byte] for byte in word.encode()], ranks)
        for part in rest:
            ranks[token, part] = len(ranks)
            token += part
            vocab[token] = len(vocab)
    return vocab, [" ".join(pair) for pair in ranks]


def save_processor(folder: str | Path) -> dict[str, int]:
    """Write all tokenizer, processor and generation files into `folder`; returns the ids of the special tokens."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = vocabulary()
    ids = {token: len(vocab) + i for i, token in enumerate((*hub.SPECIAL_TOKENS, *BOX_TOKENS))}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = [{"id": i, "content": token, **flags, "special": token in hub.SPECIAL_TOKENS} for token, i in ids.items()]
    files = {
        "vocab.json": vocab,
        "tokenizer.json": hub.tokenizer_json(vocab, merges, added),
        "tokenizer_config.json": hub.tokenizer_config(added) | {"model_max_length": 2048},
        "chat_template.json": {"chat_template": hub.CHAT_TEMPLATE},
        "preprocessor_config.json": hub.preprocessor_config(56 * 56, MAX_PIXELS, "Qwen2_5_VLProcessor"),
        "generation_config.json": hub.generation_config(ids) | {"do_sample": False, "repetition_penalty": 1.0},
    }
    for name, content in files.items():
        hub.write_text(folder / name, json.dumps(content, ensure_ascii=False, indent=1))
    hub.write_text(folder / "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    return ids
