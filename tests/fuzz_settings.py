"""Changed settings files through PaddleNLP's Auto classes and the predictor: only this package's own errors may come of them.

`python tests/fuzz_settings.py COUNT [FIRST_SEED]` makes COUNT changes, of all targets by turns, and prints what came of them: the
kinds of exceptions, the slowest, and values that were taken although their type is another than the file's own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import changed_settings
import fuzz_processor_files
from changed_settings import Target

OF_SEVERAL_TYPES = (
    *("eos_token_id", "image_mean", "image_std", "chat_template"),  # one or several
    *("eos_token", "pad_token"),  # text, or with flags
    *("total_size", "model_max_length"),  # may be written with a fraction
)


def load_config(folder: str) -> None:
    """Config, model with its weights, one token."""
    from paddlenlp.transformers import AutoConfig

    AutoConfig.from_pretrained(folder)
    answer(folder)


def answer(folder: str) -> None:
    """The model, and one token."""
    import paddle
    from paddlenlp.transformers import AutoModelForConditionalGeneration

    model = AutoModelForConditionalGeneration.from_pretrained(folder)
    model.generate(paddle.to_tensor([[1, 2, 3]]), max_new_tokens=1)


MODELS = [
    Target("qwen2_5_vl", "config.json", load_config),
    Target("qwen_vl", "config.json", load_config),
    Target("qwen2_5_vl_nested", "config.json", load_config),
    Target("qwen2_5_vl", "generation_config.json", answer),
    Target("qwen_vl", "generation_config.json", answer),
    Target("qwen2_5_vl_sharded", "model.safetensors.index.json", answer),
    Target("adapter", "adapter_config.json", load_config),
]
TARGETS = [*MODELS, *fuzz_processor_files.TARGETS]


def write_folders(root: Path) -> dict[str, Path]:
    """A small model of each family, in one file, in shards, and as transformers 5 nests configs; an adapter; processors."""
    import hub_model
    import qwen_vl_model
    from reference.qwen_vl import qwen_vl_cases

    config = hub_model.config()
    tensors = hub_model.tensors(config)
    folders = {target.folder: root / target.folder for target in MODELS}
    generation = {"do_sample": False, "temperature": 0.1, "top_k": 1, "top_p": 0.001, "repetition_penalty": 1.05}
    generation |= {"eos_token_id": [config["eos_token_id"], 1], "pad_token_id": 1, "max_new_tokens": 20}
    hub_model.write(folders["qwen2_5_vl"], config, tensors)
    hub_model.write(folders["qwen2_5_vl_nested"], nested(config), tensors)
    hub_model.write_shards(folders["qwen2_5_vl_sharded"], config, tensors, 3)
    for name in ("qwen2_5_vl", "qwen2_5_vl_nested", "qwen2_5_vl_sharded"):
        (folders[name] / "generation_config.json").write_text(json.dumps(generation))
        (folders[name] / "preprocessor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    folders["adapter"].mkdir()
    adapter = {
        "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct",
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["q"],
    }
    (folders["adapter"] / "adapter_config.json").write_text(json.dumps(adapter))
    folders["qwen_vl"].mkdir()
    config = qwen_vl_cases.CONFIGS["wide"]
    qwen_vl_model.write(folders["qwen_vl"], config, qwen_vl_cases.tensors(config))
    (folders["qwen_vl"] / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenVLTokenizer"}')
    return folders | fuzz_processor_files.write_folders(root)


def nested(config: dict) -> dict:
    """The form that transformers 5 writes."""
    top = ("architectures", "model_type", "vision_config", "image_token_id", "video_token_id", "tie_word_embeddings")
    text = {
        name: value for name, value in config.items() if name not in (*top, "rope_scaling", "rope_theta", "torch_dtype")
    }
    rope = {"mrope_section": config["rope_scaling"]["mrope_section"], "rope_type": "default", "rope_theta": 1e6}
    layers = ["full_attention"] * config["num_hidden_layers"]
    text |= {"rope_parameters": rope, "layer_types": layers, "sliding_window": None, "model_type": "qwen2_5_vl_text"}
    return {**{name: config[name] for name in top}, "dtype": "float32", "text_config": text}


@dataclass
class Outcome:
    """What came of one change."""

    target: Target
    seed: int
    seconds: float
    error: BaseException | None
    silent: list[tuple] = field(default_factory=list)


def outcome(target: Target, seed: int, folders: dict[str, Path], work: Path) -> Outcome:
    """Change the target's file by `seed` in a folder of links to the others, and use it."""
    folder = shutil.copytree(folders[target.folder], work / f"{target.folder}-{seed}", copy_function=os.symlink)
    original = (folder / target.file).read_text(encoding="utf-8")
    content = changed_settings.changed(original, seed)
    (folder / target.file).unlink()
    (folder / target.file).write_bytes(content)
    started, error = time.perf_counter(), None
    try:
        target.use(str(folder))
    except BaseException as raised:  # a panic of the tokenizers library is no Exception
        error = raised
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    is_looked_at = error is None and target.file.endswith(".json") and not target.in_part
    return Outcome(
        target, seed, seconds, error, list(other_types(json.loads(original), content)) if is_looked_at else []
    )


def other_types(original: dict, content: bytes) -> Iterator[tuple]:
    """(key, its value) of what the changed file has with another type than the original."""
    places = [((), original, json.loads(content.decode("utf-8-sig")))]
    while places:
        path, old, new = places.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            places += [((*path, key), old[key], new[key]) for key in old.keys() & new.keys()]
        elif isinstance(old, list) and isinstance(new, list):
            places += [((*path, i), *pair) for i, pair in enumerate(zip(old, new, strict=False))]
        elif not _alike(path, old, new):
            yield path, new


def _alike(path: tuple, old, new) -> bool:
    """null is the default."""
    numbers = (int, float)
    if old is None or new is None or any(key in OF_SEVERAL_TYPES for key in path):
        return True
    if type(old) in numbers and type(new) in numbers:
        return type(old) is type(new) or isinstance(old, float)
    return type(old) is type(new)


def run(count: int, first: int = 0) -> Iterator[Outcome]:
    """Changes of all targets by turns."""
    with tempfile.TemporaryDirectory() as root:
        folders = write_folders(Path(root))
        work = Path(root) / "work"
        work.mkdir()
        for index in range(count):
            yield outcome(TARGETS[index % len(TARGETS)], first + index, folders, work)


def main(count: int, first: int = 0) -> int:
    """Prints the report; 1 if there is anything in it that must not be."""
    from paddlenlp.utils.log import logger

    from paddlemix_qwenvl.errors import QwenVLError

    logger.set_level("CRITICAL")
    warnings.simplefilter("ignore")
    kinds, foreign, silent, slowest = Counter(), {}, {}, []
    for found in run(count, first):
        place = f"{found.target.folder}/{found.target.file} {found.target.use.__name__}"
        own = isinstance(found.error, QwenVLError)
        kinds[place, type(found.error).__name__ if found.error else "loads", own] += 1
        if found.error and not own:
            last = traceback.extract_tb(found.error.__traceback__)[-1]
            foreign.setdefault((type(found.error).__name__, last.name), (place, found.seed, str(found.error)[:150]))
        for path, value in found.silent:
            silent.setdefault(path, (place, found.seed, repr(value)[:60]))
        slowest = sorted([*slowest, (found.seconds, place, found.seed)], reverse=True)[:5]
    for (place, kind, own), number in sorted(kinds.items()):
        print(f"{number:6} {place:70} {kind}{'' if own or kind == 'loads' else '   NOT OURS'}")
    print("not ours:", *(f"{key} {value}" for key, value in foreign.items()), sep="\n  ")
    print("taken with another type:", *(f"{key} {value}" for key, value in silent.items()), sep="\n  ")
    print("slowest:", *(f"{seconds:.2f} s {place} seed {seed}" for seconds, place, seed in slowest), sep="\n  ")
    return int(bool(foreign) or bool(silent) or slowest[0][0] > 2)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import paddlemix_qwenvl  # noqa: F401  (which makes the hosts know its models)

    sys.exit(main(*map(int, sys.argv[1:])))
