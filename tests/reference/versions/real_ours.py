"""`real_ours.py OUT`: the package reads the folders that real_theirs.py completed and finds what it found. Else it exits with 1."""

import json
import sys
from pathlib import Path

import numpy as np
from conversations import CONVERSATIONS
from prompts import every_prompt

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.family import family_named

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import TEXTS


def load(kind: str, folder: Path):
    """The family's processor, or a part of it, for a folder that need not say what it is."""
    family = family_named("qwen2_vl" if "Qwen2-VL" in folder.name else "qwen2_5_vl")
    return family.load(kind).from_pretrained(folder)


def rendered(render, options: list[dict], wanted: list[str | None]) -> list[str]:
    """What differs from the `wanted` texts; where the other side refuses a conversation, the package may."""
    differing, texts = [], iter(wanted)
    for number, conversation in enumerate(CONVERSATIONS):
        for one in options:
            try:
                found = render(conversation, tokenize=False, **one)
            except PromptError:
                found = None
            if found != (expected := next(texts)) and expected is not None:
                differing.append(f"conversation {number} with {one}: {found!r:.200} is not {expected!r:.200}")
    return differing


def of_tokenizer(folder: Path, wanted: dict) -> list[str]:
    tokenizer = load("tokenizer", folder)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = {
        "ids": rows,
        "decoded": [tokenizer.decode(row) for row in rows],
        "answers": [tokenizer.decode(row, skip_special_tokens=True) for row in rows],
        "special": {name: getattr(tokenizer, name) for name in ("eos_token", "pad_token")} | {"bos_token": None},
        "padding_side": wanted["padding_side"] and tokenizer.padding_side,
    }
    differing = [
        f"{name}: {found[name]} is not {wanted[name]}" for name in found if found[name] != wanted.get(name, found[name])
    ]
    if "rendered" in wanted:
        differing += rendered(tokenizer.apply_chat_template, wanted["options"], wanted["rendered"])
    return differing


def of_processor(folder: Path, wanted: dict) -> list[str]:
    processor = load("processor", folder)
    return rendered(processor.apply_chat_template, wanted["options"], wanted["rendered"])


def of_pictures(folder: Path, wanted: dict[str, np.ndarray]) -> list[str]:
    found = load("image_processor", folder)(next(every_prompt()).images, return_tensors="np")
    return [f"{name} differs" for name, value in wanted.items() if not np.array_equal(found[name], value)]


def main(out: Path) -> int:
    failed = 0
    with np.load(out / "pixels.npz") as opened:
        arrays = dict(opened)
    for name, parts in json.loads((out / "expected.json").read_text(encoding="utf-8")).items():
        differing = []
        for part, wanted in parts.items():
            differing += {"tokenizer": of_tokenizer, "processor": of_processor}[part](out / name, wanted)
        pictures = {key.rpartition("/")[2]: value for key, value in arrays.items() if key.startswith(f"{name}/")}
        differing += of_pictures(out / name, pictures) if pictures else []
        failed += len(differing)
        compared = ", ".join([*parts, *(["pictures"] if pictures else [])]) or "nothing that the other side loads"
        print(f"{name}: {compared}:", *(differing[:5] or ["the same"]), sep="\n    " if differing else " ")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
