"""Files of tokenizers, processors and templates, and what is done with their folders: see fuzz_settings.py."""

from __future__ import annotations

import json
from pathlib import Path

import hub_model
import qwen_vl_model
from fuzz_settings import Target
from paddlenlp.transformers import AutoProcessor
from PIL import Image
from reference.qwen_vl import qwen_vl_cases

import paddlemix_qwenvl  # noqa: F401  (which makes the hosts know its models)
from paddlemix_qwenvl.models.auto import find_family
from paddlemix_qwenvl.models.tokenizer_settings import END

PICTURE = Image.effect_noise((70, 50), 60).convert("RGB")
MESSAGES = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": [{"type": "image", "image": PICTURE}, {"type": "text", "text": "the 图 é"}]},
]


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


def use_core(folder: Path) -> None:
    """The same with our own classes, which the commands and static graphs take."""
    family = find_family(folder)
    processor, config = (family.load(kind).from_pretrained(folder) for kind in ("processor", "config"))
    text = processor.apply_chat_template(MESSAGES, add_generation_prompt=True)
    images, videos = processor.fetch_media(MESSAGES)
    inputs = processor(text=[text], images=images, videos=videos, return_tensors="np")
    (prompt,) = family.module("positions").prompts(config, inputs)
    processor.answer_text(prompt.token_ids.tolist())
    processor.tokenizer(["a", "ab"], padding=True, return_tensors="np")


SPLIT = "tokenizer_config.json added_tokens.json special_tokens_map.json vocab.json merges.txt"
NEWER = (
    "processor_config.json video_preprocessor_config.json tokenizer_config.json chat_template.jinja "
    "additional_chat_templates/tool_use.jinja"
)
TARGETS = [
    Target(folder, name, use)
    for use in (use_processor, use_core)
    for folder, names in {
        "hub": "tokenizer.json tokenizer_config.json preprocessor_config.json chat_template.json",
        "older": SPLIT,
        "newer": NEWER,
        "qwen_vl_processor": "qwen.tiktoken tokenizer_config.json",
    }.items()
    for name in names.split()
]
TARGETS += [
    Target("hub", "config.json", use_processor, in_part=True),
    Target("qwen_vl_processor", "generation_config.json", use_processor, in_part=True),
]


def write_folders(root: Path) -> dict[str, Path]:
    """A processor's files as they are on the Hub, as older and as newer tools save them, and Qwen-VL's."""
    folders = {name: root / name for name in ("hub", "older", "newer", "qwen_vl_processor")}
    for name in ("hub", "older", "newer"):
        hub_model.write_processor(hub_model.write_config(folders[name], hub_model.config()))
    _as_older_tools(folders["older"])
    _as_newer_tools(folders["newer"])
    folders["qwen_vl_processor"].mkdir()
    qwen_vl_model.write(folders["qwen_vl_processor"], qwen_vl_cases.CONFIGS["wide"], {})
    _change(
        folders["qwen_vl_processor"] / "tokenizer_config.json", tokenizer_class="QWenVLTokenizer", padding_side="left"
    )
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
