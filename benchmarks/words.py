"""A tokenizer of the released vocabulary's size for random checkpoints: the demo's, whose tokens are joined at random up to the
special ones, which stand where the released ones do. Imports nothing that peers lack.
"""

import json
import random
import re
from functools import cache
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "paddlemix_qwenvl" / "demo"
SPECIAL = 151643  # the first special token's number
LONGEST = 6  # characters of what is joined again
SPACE = "\u0120"  # as the file writes it
TEXT = {SPACE, *map(chr, range(ord("!"), ord("~") + 1))}


@cache
def tokenizer_json() -> dict:
    """The demo's tokenizer.json, filled up with text. A digit is a token of its own."""
    found = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary, merges = found["model"]["vocab"], found["model"]["merges"]
    parts, draw = [token for token in vocabulary if all(sign in TEXT for sign in token)], random.Random(0)
    while len(vocabulary) < SPECIAL:
        first, second = draw.choice(parts), draw.choice(parts)
        token = first + second
        if SPACE not in second and token not in vocabulary:
            vocabulary[token] = len(vocabulary)
            merges.append(f"{first} {second}")
            parts += [token] * (len(token) <= LONGEST)
    for number, token in enumerate(found["added_tokens"], SPECIAL):
        token["id"] = number
    return found


def token_texts(size: int) -> list[str]:
    """Each token's text, as tokenizer.json writes it; those after the special ones are made up."""
    found = tokenizer_json()
    texts = [*found["model"]["vocab"], *(token["content"] for token in found["added_tokens"])]
    return texts + [f"unused{number}" for number in range(len(texts), size)]


def text_of(ids: list[int]) -> str:
    """What is tokenized to `ids`, digits and special tokens, with a picture's place once instead of once for each of its tokens."""
    texts = token_texts(max(ids) + 1)
    return re.sub(r"(<\|image_pad\|>)+", r"\1", "".join(texts[token] for token in ids))


def write_tokenizer(folder: Path) -> None:
    """What AutoProcessor of transformers, and ours, need beside a checkpoint."""
    found = tokenizer_json()
    special = {str(token["id"]): {**token} for token in found["added_tokens"]}
    for token in special.values():
        del token["id"]
    settings = json.loads((DEMO / "tokenizer_config.json").read_text()) | {"added_tokens_decoder": special}
    pixels = json.loads((DEMO / "preprocessor_config.json").read_text()) | {"max_pixels": 1280 * 28 * 28}
    files = {"tokenizer": found, "tokenizer_config": settings, "preprocessor_config": pixels}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "chat_template.json").write_bytes((DEMO / "chat_template.json").read_bytes())
