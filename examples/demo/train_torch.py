"""Trains the demo checkpoint further on a GPU, in PyTorch with the model of transformers: the same scenes, answers and labels.

python train_torch.py --start outputs/demo/checkpoint --minutes 8 --output outputs/gpu

For a machine without Paddle; needs torch, transformers (4.51 and 5.17 were tried), pydantic, pillow and tqdm. `--start` is a
checkpoint of either script, with its heads for patches if it has them; momenta and the rate of learning begin anew. Scenes are
drawn by as many processes as there are CPUs to spare, each seeded; whose batch comes next is a matter of time.
"""

import argparse
import functools
import itertools
import json
import os
import queue
import shutil
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import scenes
from lessons import CURRICULUM, IGNORED, Stage, in_background, scene_batches
from PIL import Image
from safetensors.numpy import save_file
from tqdm import tqdm

from paddlemix_qwenvl.media.patches import PatchSettings, patch_cells
from paddlemix_qwenvl.models.chat_templates import choose_template, processor_templates
from paddlemix_qwenvl.models.jinja import render_chat
from paddlemix_qwenvl.models.qwen2_5_vl.positions import rope_index, vision_layout
from paddlemix_qwenvl.models.tokenizer_files import read_tokenizer
from paddlemix_qwenvl.models.tokenizer_settings import read_settings

CUT = PatchSettings()
PATCH, MERGE = CUT.patch_size, CUT.merge_size
TASKS = {"describe": 1, "count": 0.5, "locate": 4, "read": 1, "compare": 1.5}
SHAPES = 4  # at most; one more than is asked for, so that a picture with one too many is no riddle
FETCHERS = 4  # threads that take batches from the drawing processes


class Processor:
    """What `lessons` asks of a processor, without Paddle: pictures become bytes, which the GPU makes numbers of."""

    merge_size = MERGE

    def __init__(self, folder: str):
        settings = read_settings(Path(folder))
        self.template = choose_template(processor_templates(Path(folder), settings))
        self.tokens = read_tokenizer(Path(folder), settings)
        self.image_processor = self.tokenizer = self
        self.convert_tokens_to_ids = self.tokens.token_to_id

    def apply_chat_template(self, conversations: list) -> list[str]:
        return render_chat(self.template, conversations)

    def __call__(self, given: list, **how) -> dict[str, np.ndarray]:
        """Texts to ids and mask, or pictures to uint8 `[P, 3 * 14 * 14]` and their grids."""
        if isinstance(given[0], str):
            self.tokens.enable_padding(pad_id=self.convert_tokens_to_ids("<|endoftext|>"))
            rows = self.tokens.encode_batch(given, add_special_tokens=False)
            masks = [row.attention_mask for row in rows]
            return {"input_ids": np.array([row.ids for row in rows]), "attention_mask": np.array(masks)}
        sizes = [scenes.resized(picture.size) for picture in given]
        frames = [np.asarray(p.resize(s, Image.Resampling.BICUBIC)) for p, s in zip(given, sizes, strict=True)]
        grids = [(1, height // PATCH, width // PATCH) for width, height in sizes]
        pixels = np.concatenate([patch_cells(frame, CUT) for frame in frames])
        return {"pixel_values": pixels.reshape(len(pixels), -1), "image_grid_thw": np.array(grids)}


def stage(batch: int) -> Stage:
    """What is drawn: the last stage of the curriculum, in larger batches."""
    return replace(CURRICULUM[-1], batch=batch, tasks=TASKS, shapes=SHAPES)


def torch_batches(processor: Processor, config: dict, folder: str, seed: int, rank: int, batch: int):
    """`scene_batches` of full-sized pictures with everything that depends on sizes worked out: files in `folder`, to be deleted."""
    for number, given in enumerate(scene_batches(processor, seed, rank, 0, stages=(stage(batch),))):
        ids, mask, grids = given["input_ids"], given.pop("attention_mask"), given.pop("image_grid_thw")
        vision = config["vision_config"]
        layout = vision_layout(grids, vision["window_size"] // PATCH // MERGE, MERGE)
        special = {name: config[name] for name in ("image_token_id", "video_token_id")}
        positions, _ = rope_index(ids, mask, merge=MERGE, tokens_per_second=2, image_grid_thw=grids, **special)
        labels, weights = (given.pop(name) for name in ("labels", "weights"))
        places = np.flatnonzero(labels[:, 1:] != IGNORED)
        places += places // (ids.shape[1] - 1)  # of the tokens before, in all of [B, S]
        given["pixel_values"] = given["pixel_values"][layout.order]
        given |= {
            "places": places,
            "expected": labels.ravel()[places + 1],
            "weights": weights.ravel()[places + 1],
            "image_places": np.flatnonzero(ids == special["image_token_id"]),
            "position_ids": positions,
            "patch_positions": layout.positions,
            "restore": layout.restore,
            **slots("full", layout.cu_seqlens),
            **slots("window", layout.cu_window_seqlens),
        }
        path = f"{folder}/{rank}-{number}.safetensors"  # a pipe between the processes would be too slow
        save_file({name: np.ascontiguousarray(values) for name, values in given.items()}, path)
        yield path


def slots(name: str, bounds: np.ndarray) -> dict[str, np.ndarray]:
    """Where packed sequences go in a padded batch: places int64 `[N]`, and which of its slots are taken, bool `[n, L]`."""
    lengths = np.diff(bounds)
    longest = -(-int(lengths.max()) // 8) * 8
    taken = np.arange(longest) < lengths[:, None]
    return {f"{name}_places": np.flatnonzero(taken), f"{name}_taken": taken}


def fetched(sources: list, load):
    """Batches of all sources, loaded, in the order in which they come."""
    ready = queue.Queue(maxsize=FETCHERS)

    def fetch(part):
        try:
            for source in itertools.cycle(part):
                ready.put(load(next(source)))
        except Exception as error:
            ready.put(error)

    for first in range(FETCHERS):
        threading.Thread(target=fetch, args=(sources[first::FETCHERS],), daemon=True).start()
    while True:
        batch = ready.get()
        if isinstance(batch, Exception):
            raise batch
        yield batch


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=Path, required=True, help="a checkpoint's folder")
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu"))
    parser.add_argument("--minutes", type=float, default=8, help="time for the steps")
    parser.add_argument("--batch", type=int, default=160, help="conversations a step")
    parser.add_argument("--learning-rate", type=float, default=0.001, help="AdamW's; Muon's is six times that")
    parser.add_argument("--decay", type=float, default=0.6, help="share of the time in which the rate goes down")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    config = json.loads((arguments.start / "config.json").read_text())
    open_processor = functools.partial(Processor, str(arguments.start))
    drawers = max(FETCHERS, len(os.sched_getaffinity(0)) - 1)
    with tempfile.TemporaryDirectory(dir=roomy_folder(), ignore_cleanup_errors=True) as folder:
        draw = functools.partial(in_background, torch_batches, open_processor, config, folder, arguments.seed)
        run(arguments, [draw(rank, arguments.batch) for rank in range(drawers)])


def roomy_folder() -> str | None:
    """A folder in memory, if there is one with room for the batches that wait."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() and shutil.disk_usage(shared).free > 8 << 30 else None


def run(arguments: argparse.Namespace, sources: list) -> None:
    """Train until the time is up."""
    from torch_trainer import Trainer, load  # slow to import, and the processes that draw do without

    trainer = Trainer(arguments.start, arguments.learning_rate)
    batches = fetched(sources, load)
    batch = next(batches)
    arguments.output.mkdir(parents=True, exist_ok=True)
    started, length, points = time.perf_counter(), arguments.minutes * 60, []
    progress = tqdm(total=round(length), unit="s", mininterval=5)
    while (elapsed := time.perf_counter() - started) < length:
        rate = max(0.0, min(1.0, (trainer.step + 1) / 50, (1 - elapsed / length) / arguments.decay))
        points.append(trainer.train(batch, rate))
        batch = next(batches)
        progress.update(round(elapsed) - progress.n)
        if trainer.step % 100 == 0:
            loss, patches = (float(sum(column) / len(points)) for column in zip(*points, strict=True))
            points = []
            progress.set_postfix(step=trainer.step, loss=f"{loss:.4f}")
            point = {"step": trainer.step, "loss": round(loss, 5), "patches": round(patches, 3)}
            with open(arguments.output / "curve.jsonl", "a", encoding="utf-8") as curve:
                print(json.dumps(point | {"seconds": round(elapsed)}), file=curve)
        if trainer.step % 1000 == 0:
            trainer.save(arguments.output / "checkpoint")
    trainer.save(arguments.output / "checkpoint")
    progress.close()


if __name__ == "__main__":
    main()
