"""A tokenizer of the released vocabulary's size for random checkpoints, made of the demo's: its tokens, and made-up words up to
the special tokens, which stand where the released ones do. Imports nothing that peers lack.
"""

import json
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "paddlemix_qwenvl" / "demo"
SPECIAL = 151643  # the first special token's number


def tokenizer_json() -> dict:
    """The demo's tokenizer.json, filled up."""
    found = json.loads((DEMO / "tokenizer.json").read_text())
    vocabulary = found["model"]["vocab"]
    vocabulary |= {f"word{number}": number for number in range(len(vocabulary), SPECIAL)}
    for number, token in enumerate(found["added_tokens"], SPECIAL):
        token["id"] = number
    return found


def token_texts(size: int) -> list[str]:
    """Each token's text, as tokenizer.json writes it; those after the special ones are made up too."""
    found = tokenizer_json()
    texts = [*sorted(found["model"]["vocab"], key=found["model"]["vocab"].get)]
    texts += [token["content"] for token in found["added_tokens"]]
    return texts + [f"unused{number}" for number in range(len(texts), size)]


def write_tokenizer(folder: Path) -> None:
    """What AutoProcessor of transformers needs beside a checkpoint."""
    found = tokenizer_json()
    (folder / "tokenizer.json").write_text(json.dumps(found))
    (folder / "vocab.json").write_text(json.dumps(found["model"]["vocab"]))
    settings = json.loads((DEMO / "tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {
        str(token["id"]): {name: value for name, value in token.items() if name != "id"}
        for token in found["added_tokens"]
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name in ("merges.txt", "chat_template.json"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    settings = json.loads((DEMO / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, "max_pixels": 1280 * 28 * 28}))
