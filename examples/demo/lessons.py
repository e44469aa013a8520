"""Batches for training: conversations to model inputs with labels, drawn in a process of their own."""

import contextlib
import itertools
import json
import multiprocessing
import re
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Full
from random import Random

import numpy as np
import scenes
from patches import IGNORED, patch_labels

from paddlemix_qwenvl.models.qwen2_5_vl.prompt import IMAGE_TOKEN, grow_placeholders

POOL, ROUNDS = 6, 2  # this many batches of pictures are drawn together, and asked about in so many rounds


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum, up to step `until`: how pictures look and what is asked about them."""

    until: int
    sides: tuple[int, int]
    area: int  # of a picture, in pixels, at most
    shapes: int  # at most
    tasks: dict[str, float] = field(
        default_factory=lambda: {"describe": 1, "count": 1, "locate": 1.5, "read": 3, "compare": 1.5}
    )
    batch: int = 20  # conversations of each process
    turns: int = 4  # of a conversation, at most


CURRICULUM = (
    Stage(300, (56, 140), 98 * 98, 2, {"describe": 1, "count": 0.5, "locate": 1.5, "read": 1}, turns=2),
    Stage(1200, (56, 224), 126 * 126, 3, turns=3),
    Stage(3200, (56, 308), 154 * 154, 3),
    Stage(10**9, scenes.SIDES, 336 * 336, scenes.MAX_SHAPES),
)


def encode(processor, conversations: list[list[dict]]) -> dict[str, np.ndarray]:
    """Model inputs of whole conversations, padded on the right, and labels: what the assistant says."""
    parts = [part for turns in conversations for turn in turns for part in turn["content"]]
    pictures = [part["image"] for part in parts if part["type"] == "image"]
    seen = encode_pictures(processor, pictures) if pictures else {}
    return encode_text(processor, conversations, seen.get("image_grid_thw")) | seen


def encode_pictures(processor, pictures: list) -> dict[str, np.ndarray]:
    """`pixel_values` and `image_grid_thw`."""
    inputs = processor.image_processor(pictures, return_tensors="np")
    return {name: inputs[name] for name in ("pixel_values", "image_grid_thw")}


def encode_scenes(processor, drawn: list[scenes.Scene], labelled: bool = True) -> dict[str, np.ndarray]:
    """`encode_pictures`, and with `labelled` the labels of all patches."""
    labels = [patch_labels(scene) for scene in drawn] if labelled else [{}]
    together = {name: np.concatenate([one[name] for one in labels]) for name in labels[0]}
    return encode_pictures(processor, [scene.image for scene in drawn]) | together


def encode_text(processor, conversations: list[list[dict]], grid) -> dict[str, np.ndarray]:
    """`input_ids`, `attention_mask` and `labels` of conversations about pictures of these grids."""
    texts = processor.apply_chat_template(conversations)
    texts = grow_placeholders(texts, IMAGE_TOKEN, grid, processor.image_processor.merge_size, "image")
    processor.tokenizer.padding_side = "right"
    inputs = processor.tokenizer(texts, padding=True, return_attention_mask=True, return_token_type_ids=False)
    batch = {name: np.asarray(inputs[name]) for name in ("input_ids", "attention_mask")}
    return batch | {"labels": np.stack([answer_labels(row, processor.tokenizer) for row in batch["input_ids"]])}


def answer_labels(ids: np.ndarray, tokenizer) -> np.ndarray:
    """`ids` where the assistant speaks, up to its `<|im_end|>`; IGNORED elsewhere."""
    start, end, assistant = (
        tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>", "assistant")
    )
    labels, ends = np.full_like(ids, IGNORED), np.flatnonzero(ids == end)
    for place in np.flatnonzero((ids[:-1] == start) & (ids[1:] == assistant)) + 3:  # after "assistant\n"
        stop = ends[np.searchsorted(ends, place)] + 1
        labels[place:stop] = ids[place:stop]
    return labels


def answer_weights(labels: np.ndarray) -> np.ndarray:
    """A token of an answer of n tokens weighs n ** -0.5: between "2" and three boxes, neither drowns the other."""
    weights = np.zeros(labels.shape, np.float32)
    for row, said in zip(weights, labels != IGNORED, strict=True):
        edges = np.flatnonzero(np.diff(np.r_[False, said, False]))
        for start, stop in edges.reshape(-1, 2):
            row[start:stop] = (stop - start) ** -0.5
    return weights


def draw(rng: Random, stage: Stage, kinds: tuple[str, ...]) -> tuple[str, list[scenes.Scene]]:
    """A task and the one or two scenes for it."""
    task = rng.choices(list(stage.tasks), list(stage.tasks.values()))[0]
    largest = scenes.PAIR_SIDES[1] if task == "compare" else stage.sides[1]
    size = scenes.random_size(rng, (stage.sides[0], min(largest, stage.sides[1])), stage.area)
    if rng.random() < 0.5:
        size = scenes.resized(size)
    count = 2 if task == "compare" else 1
    return task, [scenes.random_scene(rng, task, size, stage.shapes, kinds) for _ in range(count)]


def lesson(rng: Random, task: str, drawn: list[scenes.Scene], turns: int) -> list[tuple[str, str]]:
    """Up to `turns` questions and answers, the first on `task`; no answer gives a later one away."""
    said, boxes = [scenes.exchange(rng, task, drawn)], set()
    others = ["compare"] if task == "compare" else ["locate", "locate", "count"]
    if task == "describe":
        others.remove("count")
    for _ in range(turns - 1 if drawn[0].shapes else 0):
        boxes.update(BOX.findall(said[-1][1]))
        question, answer = scenes.exchange(rng, rng.choice(others), drawn)
        if all(question != asked for asked, _ in said) and boxes.isdisjoint(BOX.findall(answer)):
            said.append((question, answer))
    if task not in ("describe", "compare") and drawn[0].shapes and rng.random() < 0.3:
        said.append(scenes.exchange(rng, "describe", drawn))
    return said


BOX = re.compile(r"\[[\d, ]+\]")


def stage_at(step: int, stages: tuple[Stage, ...]) -> Stage:
    return next(stage for stage in stages if step < stage.until)


def scene_batches(
    processor, seed: int, rank: int, first_step: int, kinds=scenes.SHAPES, stages=CURRICULUM, labelled: bool = True
):
    """Endless batches from `first_step` on (a multiple of POOL * ROUNDS); the same seed gives the same batches.

    `labelled` batches have labels for patches, which know no other kinds than `scenes.SHAPES`.
    """
    for step in itertools.count(first_step, POOL * ROUNDS):
        stage = stage_at(step, stages)
        rng = Random(f"{seed} {rank} {step}")
        pool = [[draw(rng, stage, kinds) for _ in range(stage.batch)] for _ in range(POOL)]
        seen = [encode_scenes(processor, [scene for _, drawn in batch for scene in drawn], labelled) for batch in pool]
        for _ in range(ROUNDS):
            for batch, pictures in zip(pool, seen, strict=True):
                lessons = [(drawn, lesson(rng, task, drawn, stage.turns)) for task, drawn in batch]
                conversations = [scenes.messages(drawn, said) for drawn, said in lessons]
                text = encode_text(processor, conversations, pictures["image_grid_thw"])
                yield text | pictures | {"weights": answer_weights(text["labels"])}


def file_batches(processor, path: str, batch: int, seed: int, rank: int, first_step: int):
    """Endless shuffled batches of the conversations in a file of JSON lines, the pictures' paths relative to it.

    A line is `{"messages": [...]}` in the Hub's format; boxes in answers count in the resized picture's pixels.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    for step in itertools.count(first_step):
        chosen = Random(f"{seed} {rank} {step}").sample(lines, min(batch, len(lines)))
        yield encode(processor, [read_conversation(line, Path(path).parent) for line in chosen])


def read_conversation(line: str, folder: Path) -> list[dict]:
    """The messages of one line, contents as lists of parts, pictures as paths from here."""
    messages = json.loads(line)["messages"]
    for message in messages:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = str(folder / part["image"])
    return messages


def _produce(queue, make_batches, open_processor, arguments):
    parent = multiprocessing.parent_process()
    for batch in make_batches(open_processor(), *arguments):
        while parent.is_alive():  # one that was killed takes no more
            with contextlib.suppress(Full):
                queue.put(batch, timeout=5)
                break
        else:
            return


def in_background(make_batches, open_processor, *arguments):
    """Batches of `make_batches(open_processor(), *arguments)`, made ahead of time by another process, which starts now."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=6)
    worker = context.Process(
        target=_produce, args=(queue, make_batches, open_processor, arguments), daemon=True, name="batches"
    )
    worker.start()
    return _received(queue, worker)


def _received(queue, worker):
    while True:
        try:
            yield queue.get(timeout=5)
        except Empty:
            if not worker.is_alive():
                raise RuntimeError("the process that makes the batches has ended; its own words are above") from None
