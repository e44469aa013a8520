"""Writes what transformers 4.51.3 computes for seeded random checkpoints: `make_reference.py OUT`.

    OUT/manifest.json              what there is: checkpoints, cases, tokenizations, pictures (see `write_reference`)
    OUT/checkpoints/NAME/          a Hub folder: config, weights, tokenizer and processor files
    OUT/images/, OUT/videos/       the raw inputs, PNG; a video is a list of frames
    OUT/cases/CHECKPOINT-CASE.npz  inputs and outputs of one case, named as transformers names them
    OUT/gradients/                 gradients of some cases' losses, by the parameters' names in the files
    OUT/pictures/                  one file for each kind of picture, and in pictures.npz what the processor makes of it

Runs in the environment of requirements.txt; test_parity.py compares the package with what is written here.
"""

import argparse
import copy
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from cases import CASES, TEXTS, Case, draw_everything
from checkpoints import CHECKPOINTS, write_checkpoint
from pictures import write_pictures
from reading import open_images, open_videos
from tokenizer_files import write_text
from transformers import AutoModelForImageTextToText, AutoProcessor

WANTED_TRANSFORMERS = "4.51.3"
CLEAR_GAP = 5e-4  # least gap between the best two logits of a greedy step, relative to the largest logit
MOST_ATTEMPTS = 40
LOGIT_BYTES = 1 << 17  # of a long case, only the last positions that fit are kept


def prepare(processor, case: Case, conversations: list, folder: Path) -> tuple[list[str], dict]:
    # The processor of 4.51.3 drops the template's variables (add_vision_id); the tokenizer, with the same template, does not.
    render = processor.tokenizer.apply_chat_template
    texts = render(conversations, tokenize=False, add_generation_prompt=True, **case.template)
    images, videos = open_images(conversations, folder), open_videos(conversations, folder)
    arguments = {"fps": list(case.fps)} if case.fps else {}
    inputs = processor(
        text=list(texts),
        images=images or None,
        videos=videos or None,
        padding=True,
        padding_side="left",
        return_tensors="pt",
        **arguments,
    )
    return texts, dict(inputs)


def greedy(model, inputs: dict, arguments: dict) -> tuple[np.ndarray, np.ndarray]:
    """New tokens of a greedy run and, for each row, the smallest gap between the best two logits over the largest logit."""
    run = model.generate(**inputs, **arguments, output_scores=True, return_dict_in_generate=True)
    ids = run.sequences[:, inputs["input_ids"].shape[1] :]
    scores = torch.stack(run.scores, 1)
    best = scores.topk(2, dim=-1).values
    gaps = (best[..., 0] - best[..., 1]) / scores[scores.isfinite()].abs().max()
    stopped = ids == model.generation_config.pad_token_id
    return ids.numpy(), gaps.masked_fill(stopped, torch.inf).amin(1).numpy()


def training_labels(inputs: dict, config) -> torch.Tensor:
    """The tokens themselves, less padding, images and videos, and each row's first: padding is what would predict it."""
    mask = inputs["attention_mask"]
    ignored = mask.cumsum(-1) * mask <= 1
    for token in (config.image_token_id, config.video_token_id):
        ignored |= inputs["input_ids"] == token
    return inputs["input_ids"].masked_fill(ignored, -100)


@torch.no_grad()
def evaluate(model, inputs: dict) -> dict[str, np.ndarray]:
    rope_inputs = ("input_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    positions, deltas = model.get_rope_index(**{name: inputs[name] for name in rope_inputs if name in inputs})
    labels = training_labels(inputs, model.config)
    output = model(**inputs, labels=labels)
    batch, length, vocabulary = output.logits.shape
    start = max(0, length - max(1, LOGIT_BYTES // (4 * batch * vocabulary)))
    result = {
        "position_ids": positions,
        "rope_deltas": deltas,
        "labels": labels,
        "loss": output.loss,
        "logits": output.logits[:, start:],
        "logits_start": torch.tensor(start),
    }
    if "pixel_values" in inputs:
        result["image_features"] = model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
    if "pixel_values_videos" in inputs:
        result["video_features"] = model.visual(inputs["pixel_values_videos"], grid_thw=inputs["video_grid_thw"])
    return {name: value.numpy() for name, value in result.items()}


def with_clear_gaps(model, processor, case: Case, folder: Path) -> tuple[list, list[str], dict, dict]:
    """The case, rows numbered anew until no greedy step of any is a near tie that rounding could turn, and its runs."""
    conversations = copy.deepcopy(case.conversations)
    for attempt in range(1, MOST_ATTEMPTS):
        texts, inputs = prepare(processor, case, conversations, folder)
        runs = {name: greedy(model, inputs, arguments) for name, arguments in case.generations.items()}
        gaps = np.min([gaps for _, gaps in runs.values()], axis=0)
        unclear = [row for row, ids in enumerate(runs["greedy_ids"][0]) if gaps[row] < CLEAR_GAP or len(set(ids)) < 8]
        if not unclear:
            return conversations, texts, inputs, {name: ids for name, (ids, _) in runs.items()}
        for row in unclear:
            question = case.conversations[row][-1]
            conversations[row][-1] = {
                **question,
                "content": [*question["content"], {"type": "text", "text": f" {attempt}"}],
            }
    raise RuntimeError(f"case {case.name}: rows {unclear} still near a tie or repeating after {MOST_ATTEMPTS} attempts")


def gradients(model, inputs: dict) -> dict[str, np.ndarray]:
    """Gradient of the loss with respect to every parameter, by its name in the file."""
    model.zero_grad()
    model(**inputs, labels=training_labels(inputs, model.config)).loss.backward()
    found = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


def stopping_run(ids: np.ndarray) -> dict:
    """Arguments of a run that stops at tokens which the first two rows reach at different steps of the greedy run."""
    stops = sorted({int(ids[0, 5]), int(ids[1, 15])})
    return {"max_new_tokens": 32, "do_sample": False, "repetition_penalty": 1.0, "eos_token_id": stops}


def write_case(model, processor, checkpoint: str, case: Case, folder: Path) -> dict:
    conversations, texts, inputs, runs = with_clear_gaps(model, processor, case, folder)
    generations = dict(case.generations)
    if len(texts) > 1:
        generations["stopped_ids"] = stopping_run(runs["greedy_ids"])
        runs["stopped_ids"], gaps = greedy(model, inputs, generations["stopped_ids"])
        if gaps.min() < CLEAR_GAP:
            raise RuntimeError(f"case {checkpoint} {case.name}: a near tie in the run that stops; stop elsewhere")
    arrays = {name: np.asarray(value) for name, value in inputs.items()} | evaluate(model, inputs) | runs
    file, gradient_file = (f"{kind}/{checkpoint}-{case.name}.npz" for kind in ("cases", "gradients"))
    np.savez_compressed(folder / file, **arrays)
    if case.gradients:
        np.savez_compressed(folder / gradient_file, **gradients(model, inputs))
    return {
        "name": case.name,
        "checkpoint": checkpoint,
        "file": file,
        "gradients": gradient_file if case.gradients else None,
        "conversations": conversations,
        "template": case.template,
        "fps": list(case.fps),
        "texts": texts,
        "generations": generations,
        "decoded": processor.batch_decode(
            runs["greedy_ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False
        ),
        "arrays": {name: [str(array.dtype), *array.shape] for name, array in arrays.items()},
    }


def tokenizations(tokenizer) -> list[dict]:
    """Text to ids and back, with the special tokens and without."""
    pairs = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        kept, skipped = (
            tokenizer.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            for skip in (False, True)
        )
        pairs.append({"text": text, "ids": ids, "decoded": kept, "decoded_without_special_tokens": skipped})
    return pairs


def write_reference(folder: Path) -> dict:
    """Fill `folder`. Returns the manifest: every case with the conversations and texts that went in, and its arrays."""
    manifest = {"transformers": transformers.__version__, "torch": torch.__version__, "checkpoints": {}, "cases": []}
    for name in ("cases", "gradients"):
        (folder / name).mkdir()
    draw_everything(folder)
    for seed, shape in enumerate(CHECKPOINTS, start=1):
        path = folder / "checkpoints" / shape.name
        write_checkpoint(shape, path, seed)
        model = AutoModelForImageTextToText.from_pretrained(path, torch_dtype=torch.float32).eval()
        processor = AutoProcessor.from_pretrained(path)
        manifest["checkpoints"][shape.name] = {"tokenizations": tokenizations(processor.tokenizer)}
        for case in CASES[shape.name]:
            manifest["cases"].append(write_case(model, processor, shape.name, case, folder))
    manifest["pictures"] = {
        "checkpoint": CHECKPOINTS[-1].name,
        **write_pictures(processor.image_processor, folder / "pictures"),
    }
    write_text(folder / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out.resolve()
    if transformers.__version__ != WANTED_TRANSFORMERS:
        parser.error(f"transformers {transformers.__version__} is installed, {WANTED_TRANSFORMERS} is the reference")
    if out.exists() and any(out.iterdir()) and not (out / "manifest.json").exists():
        parser.error(f"{out} holds something else than an earlier reference; name a new folder")
    torch.set_num_threads(1)  # at these sizes a second thread costs more than it brings
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="`do_sample` is set to `False`")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=out.name + ".") as scratch:
        folder = Path(scratch) / "reference"
        folder.mkdir()
        write_reference(folder)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


if __name__ == "__main__":
    main()
