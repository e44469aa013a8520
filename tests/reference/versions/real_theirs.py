"""`real_theirs.py REAL OUT`: what this transformers makes of the tokenizers, processors and templates of released models.

REAL holds a folder of metadata for each model; what they lack, the vocabulary, is made of the public ranks. OUT/NAME are the
completed folders, OUT/expected.json texts and ids by folder, OUT/pixels.npz what pictures become. real_ours.py compares. A part
that this version itself does not load is left out and said.
"""

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import torchvision_stand_in  # noqa: F401, before transformers
import transformers
from conversations import CONVERSATIONS, OPTIONS, PLAIN_OPTIONS
from prompts import every_prompt
from transformers import AutoTokenizer, Qwen2_5_VLProcessor, Qwen2VLProcessor

sys.path.insert(0, str(Path(__file__).parents[1]))
from cases import TEXTS
from tokenizer_files import write_tokenizer_files

VERSION = tuple(map(int, transformers.__version__.split(".")[:2]))
if VERSION < (5, 0):
    from transformers import Qwen2VLImageProcessor as ImageProcessor
else:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil as ImageProcessor
TEMPLATES = {"chat_template.json", "chat_template.jinja"}
OLDER_FORM = ("vocab.json", "merges.txt")


def complete(real: Path, out: Path) -> list[Path]:
    """Copies of the folders that have any file of a tokenizer or processor, with a vocabulary: some as tokenizer.json, which newer
    tools write, some as vocab.json and merges.txt."""
    write_tokenizer_files(out / "vocabulary")
    folders = []
    for source in sorted(path for path in real.iterdir() if path.is_dir()):
        names = {path.name for path in source.iterdir()}
        if (
            not names & {"tokenizer_config.json", "added_tokens.json", "preprocessor_config.json"}
            or "Qwen-VL" in source.name
        ):
            continue
        folder = out / source.name
        shutil.copytree(source, folder)
        is_older = "added_tokens.json" in names
        for name in OLDER_FORM if is_older else ("tokenizer.json",):
            shutil.copy(out / "vocabulary" / name, folder)
        folders.append(folder)
    return folders


def rendered(render, options: list[dict]) -> list[str | None]:
    """One text for each conversation and each of the options, None where the template refuses."""
    texts = []
    for conversation in CONVERSATIONS:
        for one in options:
            try:
                texts.append(render(conversation, tokenize=False, **one))
            except (
                ValueError,
                TypeError,
                KeyError,
                transformers.utils.chat_template_utils.jinja2.exceptions.TemplateError,
            ):
                texts.append(None)
    return texts


def of_tokenizer(folder: Path) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    found = {
        "ids": rows,
        "decoded": [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in rows],
        "special": {name: getattr(tokenizer, name) for name in ("eos_token", "pad_token", "bos_token")},
        "padding_side": tokenizer.init_kwargs.get("padding_side"),
    }
    if (folder / "tokenizer_config.json").is_file():  # which says what is special
        found["answers"] = [
            tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False) for row in rows
        ]
    if tokenizer.chat_template is not None:
        # 4.51 goes on from where the last message's text is last found, be it in what follows.
        options = OPTIONS if VERSION > (4, 51) else [one for one in OPTIONS if "continue_final_message" not in one]
        found |= {"options": options, "rendered": rendered(tokenizer.apply_chat_template, options)}
    return found


def of_processor(folder: Path) -> dict:
    kind = Qwen2VLProcessor if "Qwen2-VL" in folder.name else Qwen2_5_VLProcessor
    processor = kind.from_pretrained(folder)
    options = OPTIONS if VERSION > (4, 51) else PLAIN_OPTIONS  # 4.51's hands no variables on to the template
    return {"options": options, "rendered": rendered(processor.apply_chat_template, options)}


def of_pictures(folder: Path) -> dict[str, np.ndarray]:
    if VERSION < (5, 0) and not (folder / "preprocessor_config.json").is_file():
        raise ValueError("processor_config.json with all settings is 5's")  # 4.57 takes its defaults in silence
    found = ImageProcessor.from_pretrained(folder)(next(every_prompt()).images, return_tensors="np")
    return {name: np.asarray(found[name]) for name in ("pixel_values", "image_grid_thw")}


def main(real: Path, out: Path) -> None:
    expected, arrays = {}, {}
    for folder in complete(real, out):
        names = {path.name for path in folder.iterdir()}
        found = expected[folder.name] = {}
        parts = {"tokenizer": of_tokenizer} if names & {"tokenizer_config.json", "added_tokens.json"} else {}
        if names & {"preprocessor_config.json", "processor_config.json"}:
            parts["pictures"] = of_pictures
            parts |= {"processor": of_processor} if parts.keys() > {"pictures"} and names & TEMPLATES else {}
        said = []
        for name, part in parts.items():
            try:
                found[name] = part(folder)
            except (ValueError, OSError, AttributeError, ImportError) as error:
                said.append(f"(it does not load the {name}: {' '.join(str(error).split())[:60]}...)")
        if "pictures" in found:
            arrays |= {f"{folder.name}/{name}": value for name, value in found.pop("pictures").items()}
        print(f"transformers {transformers.__version__} has read {folder.name}:", *parts, *said)
    (out / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    np.savez_compressed(out / "pixels.npz", **arrays)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    main(*map(Path, sys.argv[1:]))
