"""Batches for training: conversations to model inputs with labels, drawn in a process of their own."""

import itertools
import json
import multiprocessing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import scenes

IGNORED = -100
POOL = 4  # batches of one picture size, drawn together and sorted by length


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum: up to step `until`, pictures with these sides, at most so many shapes, these tasks."""

    until: int
    sides: tuple[int, int]
    shapes: int
    tasks: dict[str, float] = field(default_factory=lambda: {"describe": 1, "count": 1, "locate": 1.5, "read": 1.5})
    pairs: float = 0.15  # share of batches on two pictures
    batch: int = 24  # of each process
    turns: tuple[int, ...] = (1, 2, 2)
    plain: bool = False  # one grey for every background


CURRICULUM = (
    Stage(200, (56, 84), 1, {"describe": 1}, pairs=0, turns=(1,), plain=True),
    Stage(400, (56, 112), 1, {"describe": 1, "locate": 1}, pairs=0, turns=(1,)),
    Stage(750, (84, 112), 2, {"describe": 1, "count": 0.5, "locate": 2}, pairs=0),
    Stage(980, (112, 168), 3),
    Stage(10**9, scenes.SIDES, scenes.MAX_SHAPES, batch=16),
)


def encode(processor, conversations: list[list[dict]]) -> dict[str, np.ndarray]:
    """Model inputs of whole conversations, padded on the right, and labels: what the assistant says."""
    pictures = [
        part["image"]
        for conversation in conversations
        for message in conversation
        for part in message["content"]
        if part["type"] == "image"
    ]
    texts = processor.apply_chat_template(conversations)
    processor.tokenizer.padding_side = "right"
    inputs = processor(images=pictures or None, text=texts, return_tensors="np")
    names = ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")
    batch = {name: inputs[name] for name in names if name in inputs}
    # Padding follows the answers and is ignored by the labels, so it need not be masked: rows of one length run faster.
    del batch["attention_mask"]
    batch["labels"] = np.stack([answer_labels(row, processor.tokenizer) for row in batch["input_ids"]])
    return batch


def answer_labels(ids: np.ndarray, tokenizer) -> np.ndarray:
    """`ids` where the assistant speaks, up to its `<|im_end|>`; IGNORED elsewhere."""
    start, end, assistant = (
        tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>", "assistant")
    )
    labels, speaking = np.full_like(ids, IGNORED), False
    for place in range(3, len(ids)):
        if ids[place - 3] == start and ids[place - 2] == assistant:
            speaking = True
        if speaking:
            labels[place] = ids[place]
        speaking = speaking and ids[place] != end
    return labels


def draw_pool(seed: str, rank: int, stage: Stage, kinds: tuple[str, ...]) -> list[list[list[dict]]]:
    """POOL batches of conversations about pictures of one size (the same for all ranks), each of similar lengths."""
    rng = Random(seed)
    pair = rng.random() < stage.pairs
    largest = min(stage.sides[1], scenes.PAIR_SIDES[1]) if pair else stage.sides[1]
    size = scenes.random_size(rng, (stage.sides[0], largest))
    if rng.random() < 0.5:
        size = scenes.resized(size)
    rng = Random(f"{seed} {rank}")
    conversations = []
    for _ in range(POOL * stage.batch):
        task = "compare" if pair else rng.choices(list(stage.tasks), list(stage.tasks.values()))[0]
        drawn, exchanges = scenes.lesson(
            rng, task, size, stage.shapes, rng.choice(stage.turns), kinds=kinds, plain=stage.plain
        )
        conversations.append(scenes.messages(drawn, exchanges))
    conversations.sort(key=lambda turns: sum(len(turn["content"][-1]["text"]) for turn in turns))
    batches = [conversations[i * stage.batch : (i + 1) * stage.batch] for i in range(POOL)]
    Random(seed).shuffle(batches)
    return batches


def stage_at(step: int) -> Stage:
    return next(stage for stage in CURRICULUM if step < stage.until)


def scene_batches(processor, seed: int, rank: int, first_step: int, kinds=scenes.SHAPES, curriculum: bool = True):
    """Endless batches from `first_step` on (a multiple of POOL); the same seed gives the same batches."""
    step = first_step
    while True:
        stage = stage_at(step) if curriculum else CURRICULUM[-1]
        for conversations in draw_pool(f"{seed} {step}", rank, stage, kinds):
            yield encode(processor, conversations)
        step += POOL


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


def _produce(queue, make_batches, processor_folder, arguments):
    from paddlemix_qwenvl.models.qwen2_5_vl import Qwen2_5_VLProcessor

    for batch in make_batches(Qwen2_5_VLProcessor.from_pretrained(processor_folder), *arguments):
        queue.put(batch)


def in_background(make_batches, processor_folder: str, *arguments):
    """Batches of `make_batches(processor, *arguments)`, made ahead of time by another process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=12)
    worker = context.Process(
        target=_produce, args=(queue, make_batches, processor_folder, arguments), daemon=True, name="batches"
    )
    worker.start()
    while True:
        yield queue.get()
