"""Puts a trained checkpoint into the package, in the Hub's layout: `--model_path demo` is then this one.

python ship.py outputs/demo/checkpoint ../../paddlemix_qwenvl/demo
"""

import shutil
import sys
from pathlib import Path

import tokenizer as demo_tokenizer

from paddlemix_qwenvl.files import whole_folder


def ship(checkpoint: Path, folder: Path) -> None:
    """Weights and config of `checkpoint` beside freshly written tokenizer, processor and generation files."""
    with whole_folder(folder) as part:
        demo_tokenizer.save_processor(part)
        for name in ("model.safetensors", "config.json"):
            shutil.copyfile(checkpoint / name, part / name)


if __name__ == "__main__":
    ship(*map(Path, sys.argv[1:]))
