"""A seeded tiny Qwen-VL folder in the Hub's layout, with a vocabulary of its own."""

import base64
import json
from pathlib import Path

from hub_model import MERGES
from reference.qwen_vl import qwen_vl_cases as cases
from safetensors.numpy import save_file

# As in the real vocabulary, the id of a byte is not its value.
BYTES = [bytes([value]) for value in reversed(range(256))]
FILLERS = [bytes([33 + i % 90, 160 + i // 90]) for i in range(cases.RANKS - len(BYTES) - len(MERGES))]
SETTINGS = {"chat_format": "chatml", "do_sample": False, "max_new_tokens": 6, "max_window_size": 1200}


def write(folder: Path, config: dict, tensors: dict) -> Path:
    """The model's files, and pictures."""
    ranks = [base64.b64encode(token) for token in BYTES + MERGES + FILLERS]
    (folder / "qwen.tiktoken").write_bytes(b"".join(b"%s %d\n" % (token, rank) for rank, token in enumerate(ranks)))
    (folder / "tokenizer_config.json").write_text(json.dumps(cases.TOKENIZER_CONFIG))
    (folder / "config.json").write_text(json.dumps(config))
    ends = {"eos_token_id": cases.RANKS, "pad_token_id": cases.RANKS}
    (folder / "generation_config.json").write_text(json.dumps({**SETTINGS, **ends}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    cases.draw_pictures(folder)
    return folder
