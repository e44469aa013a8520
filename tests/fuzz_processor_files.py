"""Changed files of tokenizers, processors and templates: only this package's own errors may come of them, and soon.

`python tests/fuzz_processor_files.py COUNT [FIRST_SEED]` makes COUNT changes, of all targets by turns, and prints what came of
them: kinds of exceptions, the slowest, and values that were taken although their type is another than the file's own.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import changed_settings
import hub_model
import qwen_vl_model
from paddlenlp.transformers import AutoProcessor
from paddlenlp.utils.log import logger
from PIL import Image
from reference.qwen_vl import qwen_vl_cases

import paddlemix_qwenvl  # noqa: F401  (which makes the hosts know its models)
from paddlemix_qwenvl.deploy.prompt import Qwen2_5_VLPrompts, QWenVLPrompts
from paddlemix_qwenvl.errors import QwenVLError
from paddlemix_qwenvl.models.qwen_vl.tags import IMAGE_TAGS
from paddlemix_qwenvl.models.tokenizer_settings import END, PATTERN

PICTURE = Image.effect_noise((70, 50), 60).convert("RGB")
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "the 图 é"}]},
]
LIMIT = 2.0  # seconds
# One for all or a list, one or several, text or with flags.
OF_SEVERAL_TYPES = ("image_mean", "image_std", "chat_template", "eos_token", "pad_token")
READ_IN_PART = ("config.json", "generation_config.json")  # of which models read the rest


@dataclass(frozen=True)
class Target:
    """A file that is changed, in one of the folders, and what is done with the folder then."""

    folder: str
    file: str
    use: Callable[[Path], object]


def use_processor(folder: Path) -> None:
    """A prompt with a picture, and a video where there are any; its text and ids; its answer; the tokenizer's own template."""
    processor = AutoProcessor.from_pretrained(str(folder))
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    inputs = processor(text=[text], images=[PICTURE], return_tensors="np")
    processor.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    if hasattr(processor, "video_processor"):
        processor(text=["<|video_pad|>"], videos=[[PICTURE] * 3])
        processor.tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tools=[])
    processor.tokenizer(["a", "ab"], padding=True, return_tensors="np")


def use_predictor(folder: Path) -> None:
    """The same for an export, whose graphs are not needed for it."""
    if (folder / "tiktoken.json").is_file():
        vision = {"image_size": 112, "n_queries": 256, "ntk_length": None}
        prompts = QWenVLPrompts(folder, SimpleNamespace(vision=vision))
    else:
        vision = {"window": 4, "merge": 2, "tokens_per_second": 2}
        tokens = {"image": 277, "video": 278, "pad": 265}
        prompts = Qwen2_5_VLPrompts(folder, SimpleNamespace(vision=vision, tokens=tokens))
    prompt = prompts.prepare(*prompts.render([MESSAGES]))
    prompts.decode(prompt.rows[0].tolist())


TARGETS = [
    Target("hub", "tokenizer.json", use_processor),
    Target("hub", "tokenizer_config.json", use_processor),
    Target("hub", "preprocessor_config.json", use_processor),
    Target("hub", "chat_template.json", use_processor),
    Target("hub", "config.json", use_processor),
    Target("older", "vocab.json", use_processor),
    Target("older", "merges.txt", use_processor),
    Target("older", "added_tokens.json", use_processor),
    Target("older", "special_tokens_map.json", use_processor),
    Target("older", "tokenizer_config.json", use_processor),
    Target("newer", "processor_config.json", use_processor),
    Target("newer", "video_preprocessor_config.json", use_processor),
    Target("newer", "tokenizer_config.json", use_processor),
    Target("newer", "chat_template.jinja", use_processor),
    Target("newer", "additional_chat_templates/tool_use.jinja", use_processor),
    Target("qwen_vl", "qwen.tiktoken", use_processor),
    Target("qwen_vl", "tokenizer_config.json", use_processor),
    Target("qwen_vl", "generation_config.json", use_processor),
    Target("hub", "tokenizer.json", use_predictor),
    Target("hub", "preprocessor_config.json", use_predictor),
    Target("hub", "chat_template.json", use_predictor),
    Target("qwen_vl", "qwen.tiktoken", use_predictor),
    Target("qwen_vl", "tiktoken.json", use_predictor),
]


def write_folders(root: Path) -> dict[str, Path]:
    """A processor's files as they are on the Hub, as older and as newer tools save them, and Qwen-VL's."""
    folders = {name: root / name for name in ("hub", "older", "newer", "qwen_vl")}
    for name in ("hub", "older", "newer"):
        hub_model.write_processor(hub_model.write_config(folders[name], hub_model.config()))
    _as_older_tools(folders["older"])
    _as_newer_tools(folders["newer"])
    folders["qwen_vl"].mkdir()
    qwen_vl_model.write(folders["qwen_vl"], qwen_vl_cases.CONFIGS["wide"], {})
    _change(folders["qwen_vl"] / "tokenizer_config.json", tokenizer_class="QWenVLTokenizer", padding_side="left")
    special = [END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)), *IMAGE_TAGS]
    numbered = {token: qwen_vl_cases.RANKS + index for index, token in enumerate(special)}
    _change(folders["qwen_vl"] / "tiktoken.json", pattern=PATTERN, special_tokens=numbered)
    return folders


def _as_older_tools(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    _change(folder / "tokenizer_config.json", added_tokens_decoder=None, processor_class="Qwen2_5_VLProcessor")
    _change(folder / "added_tokens.json", **hub_model.IDS)
    end = {"content": "<|im_end|>", "lstrip": False, "normalized": False}
    _change(
        folder / "special_tokens_map.json", eos_token=end, pad_token=END, additional_special_tokens=["<|im_start|>"]
    )


def _as_newer_tools(folder: Path) -> None:
    template = json.loads((folder / "chat_template.json").read_text(encoding="utf-8"))["chat_template"]
    picture = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
    for name in ("vocab.json", "merges.txt", "chat_template.json", "preprocessor_config.json"):
        (folder / name).unlink()
    _change(folder / "tokenizer_config.json", added_tokens_decoder=None, processor_class="Qwen2_5_VLProcessor")
    picture |= {
        "size": {"shortest_edge": 3136, "longest_edge": 50176},
        "do_resize": True,
        "resample": 3,
        "do_rescale": True,
    }
    _change(folder / "processor_config.json", image_processor=picture, processor_class="Qwen2_5_VLProcessor")
    _change(folder / "video_preprocessor_config.json", **picture, video_processor_type="Qwen2VLVideoProcessor")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(
        "{{ tools | tojson }}" + template, encoding="utf-8"
    )


def _change(path: Path, **fields) -> None:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**found, **fields}), encoding="utf-8")


@dataclass
class Outcome:
    """What came of one change."""

    target: Target
    seed: int
    seconds: float
    error: BaseException | None
    silent: list[tuple]


def outcome(target: Target, seed: int, folders: dict[str, Path], work: Path) -> Outcome:
    """Change the target's file by `seed` in a copy of its folder, and use that."""
    folder = shutil.copytree(folders[target.folder], work / f"{target.folder}-{seed}")
    original = (folder / target.file).read_text(encoding="utf-8")
    content = changed_settings.changed(original, seed)
    (folder / target.file).write_bytes(content)
    started, error = time.perf_counter(), None
    try:
        target.use(folder)
    except BaseException as raised:  # a Rust library's panic is no Exception
        error = raised
    seconds = time.perf_counter() - started
    shutil.rmtree(folder)
    looked_at = error is None and target.file.endswith(".json") and target.file not in READ_IN_PART
    return Outcome(target, seed, seconds, error, list(_other_types(original, content)) if looked_at else [])


def _other_types(original: str, content: bytes) -> Iterator[tuple]:
    """(key, value) of what the changed file has with another type than the original; null is the default."""
    places = [((), json.loads(original), json.loads(content.decode("utf-8-sig")))]
    while places:
        path, old, new = places.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            places += [((*path, key), old[key], new[key]) for key in old.keys() & new.keys()]
        elif isinstance(old, list) and isinstance(new, list):
            places += [((*path, index), *pair) for index, pair in enumerate(zip(old, new, strict=False))]
        elif None not in (old, new) and path[-1] not in OF_SEVERAL_TYPES and _kind(old) is not _kind(new):
            yield path, new


def _kind(value) -> type:
    return float if type(value) is int else type(value)


def run(count: int, first: int = 0) -> Iterator[Outcome]:
    """Changes of all targets by turns."""
    with tempfile.TemporaryDirectory() as root:
        folders = write_folders(Path(root))
        for index in range(count):
            yield outcome(TARGETS[index % len(TARGETS)], first + index, folders, Path(root))


def main(count: int, first: int = 0) -> int:
    """Prints the report; 1 if there is anything in it that must not be."""
    logger.set_level("CRITICAL")
    warnings.simplefilter("ignore")
    kinds, foreign, silent, slowest = Counter(), {}, {}, []
    for found in run(count, first):
        place = f"{found.target.folder}/{found.target.file} {found.target.use.__name__}"
        kinds[place, type(found.error).__name__ if found.error else "loads"] += 1
        if found.error and not isinstance(found.error, QwenVLError):
            last = traceback.extract_tb(found.error.__traceback__)[-1]
            foreign.setdefault((type(found.error).__name__, last.name), (place, found.seed, str(found.error)[:150]))
        for path, value in found.silent:
            silent.setdefault(path, (place, found.seed, repr(value)[:60]))
        slowest = sorted([*slowest, (found.seconds, place, found.seed)], reverse=True)[:5]
    for (place, kind), number in sorted(kinds.items()):
        print(f"{number:6} {place:70} {kind}")
    print("not ours:", *(f"{key} {value}" for key, value in foreign.items()), sep="\n  ")
    print("taken with another type:", *(f"{key} {value}" for key, value in silent.items()), sep="\n  ")
    print("slowest:", *(f"{seconds:.2f} s {place} seed {seed}" for seconds, place, seed in slowest), sep="\n  ")
    return int(bool(foreign) or bool(silent) or slowest[0][0] > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
