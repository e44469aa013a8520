"""Tests a checkpoint on held-out scenes and prints a table: exact answers, and for "locate" the mean IoU of boxes.

python evaluate.py --model outputs/demo/checkpoint                   # also --dtype bfloat16, --quantization int8, int4 or fp8
python evaluate.py --static                                          # the same through exported static graphs
python -m paddle.distributed.launch --nproc_per_node 2 --backend gloo evaluate.py         # through tensor parallelism
"""

import argparse
import functools
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("MKL_DEBUG_CPU_TYPE", "5")  # the fast path of Paddle's MKL, on AMD too

import scenes
from tqdm import tqdm

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from paddlemix_qwenvl.grounding import parse
from paddlemix_qwenvl.parallel import start_ranks

LONGEST_ANSWER = 120  # tokens; five boxes take 100


def prompts(examples) -> list[list[dict]]:
    """The examples' questions as conversations."""
    return [scenes.messages(drawn, [(question, "")])[:1] for drawn, question, _ in examples]


def answers(model, processor, examples) -> tuple[list[str], list]:
    """What the model says to each example, and the sizes its pictures were resized to."""
    texts = processor.apply_chat_template(prompts(examples), add_generation_prompt=True)
    pictures = [scene.image for drawn, _, _ in examples for scene in drawn]
    inputs = processor(images=pictures, text=texts, return_tensors="pd")
    ids, _ = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)
    return processor.post_process(ids), inputs["resized_sizes"]


def predicted(predictor, examples) -> tuple[list[str], list]:
    """`answers` of static graphs."""
    said = predictor.answer_all(prompts(examples), max_new_tokens=LONGEST_ANSWER, do_sample=False)
    return [each.text for each in said], [size for each in said for size in each.sizes["resized_sizes"]]


def exported(model, processor):
    """The model as static graphs, loaded."""
    from paddlemix_qwenvl.static.export import export
    from paddlemix_qwenvl.static.loading import load_export

    with tempfile.TemporaryDirectory() as folder:
        export(model, processor, folder + "/graphs", say=lambda text: None)
        return load_export(folder + "/graphs")


def iou(a, b) -> float:
    """Intersection over union of two (x1, y1, x2, y2) boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def overlap(truth, found) -> float:
    """Mean IoU of the boxes in `truth` with those `found` of the same label, best pairs first; missing and surplus count 0."""
    pairs = sorted(
        ((iou(t.box, f.coords), i, j) for i, t in enumerate(truth) for j, f in enumerate(found) if t.name == f.label),
        reverse=True,
    )
    used_truth, used_found, total = set(), set(), 0.0
    for value, i, j in pairs:
        if i not in used_truth and j not in used_found:
            used_truth.add(i)
            used_found.add(j)
            total += value
    return total / max(len(truth), len(found), 1)


def located(answer: str, expected: str, scene, resized) -> tuple[float, bool]:
    """Mean IoU of an answer's boxes, and whether it could be parsed."""
    found = [item for item in parse(answer, [scene.image.size], [resized]) if item.kind == "box"]
    count = expected.count("bbox_2d")
    labels = [item.label for item in parse(expected, [scene.image.size], [resized])]
    truth = [shape for shape in scene.shapes if shape.name in labels]
    assert len(truth) == count
    return overlap(truth, found), bool(found)


def evaluate(
    ask, task: str, limit: int, batch: int, kinds=scenes.SHAPES, seed: str = "test", said: list | None = None
) -> dict[str, float]:
    """Scores of one task on `limit` held-out examples, between 0 and 1.

    `ask(examples)` gives the answers and the pictures' resized sizes; the answers are added to `said`.
    """
    right, overlaps, parsed = 0, [], 0
    examples = [scenes.example(task, f"{seed} {number}", kinds) for number in range(limit)]
    for first in tqdm(range(0, limit, batch), desc=task, leave=False):
        part = examples[first : first + batch]
        given, sizes = ask(part)
        if said is not None:
            said += given
        for (drawn, _, expected), answer, size in zip(part, given, sizes[:: len(part[0][0])], strict=True):
            right += answer == expected
            if task == "locate":
                value, readable = located(answer, expected, drawn[0], size)
                overlaps.append(value)
                parsed += readable
    scores = {"exact": right / limit}
    if task == "locate":
        scores = {"mean IoU": sum(overlaps) / limit, "parsed": parsed / limit}
    return scores


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo", help="a checkpoint's folder or name")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16")
    parser.add_argument("--quantization", choices=["int8", "int4", "fp8"])
    parser.add_argument("--static", action="store_true", help="export static graphs and ask those")
    parser.add_argument("--tasks", nargs="+", choices=scenes.TASKS, default=scenes.TASKS)
    parser.add_argument("--kinds", nargs="+", default=scenes.SHAPES, help="shapes in the scenes")
    parser.add_argument("--limit", type=int, default=500, help="examples a task")
    parser.add_argument("--batch", type=int, default=25, help="prompts answered at once")
    parser.add_argument("--answers", type=Path, help="write all answers to this file, JSON: task -> list")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    rank = start_ranks(None, None)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        arguments.model, dtype=arguments.dtype, quantization=arguments.quantization
    )
    processor = Qwen2_5_VLProcessor.from_pretrained(arguments.model)
    if arguments.static:
        ask = functools.partial(predicted, exported(model, processor))
    else:
        ask = functools.partial(answers, model, processor)
    show = print if rank == 0 else lambda *line, **how: None
    show("| task | examples | result |\n|---|---|---|")
    said = {task: [] for task in arguments.tasks}
    for task in arguments.tasks:
        scores = evaluate(ask, task, arguments.limit, arguments.batch, arguments.kinds, said=said[task])
        result = ", ".join(
            f"{name} {value:.3f}" if name == "mean IoU" else f"{name} {value:.1%}" for name, value in scores.items()
        )
        show(f"| {task} | {arguments.limit} | {result} |", flush=True)
    if arguments.answers and rank == 0:
        arguments.answers.write_text(json.dumps(said, ensure_ascii=False, indent=0), encoding="utf-8")


if __name__ == "__main__":
    main()
