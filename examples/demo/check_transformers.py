"""Asks transformers the questions that `evaluate.py --answers FILE` asked, and counts the answers that are the same.

In an environment with tests/reference/requirements.txt:  python check_transformers.py ../../paddlemix_qwenvl/demo FILE
"""

import json
import sys
from pathlib import Path

import scenes
import torch
from transformers import AutoProcessor, Qwen2_5_VLForConditionalGeneration

BATCH = 25


def main(folder: str, file: str) -> None:
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder, use_fast=False)
    processor.tokenizer.padding_side = "left"
    for task, ours in json.loads(Path(file).read_text(encoding="utf-8")).items():
        examples, theirs = [scenes.example(task, f"test {number}") for number in range(len(ours))], []
        for first in range(0, len(ours), BATCH):
            part = examples[first : first + BATCH]
            conversations = [scenes.messages(drawn, [(question, "")])[:1] for drawn, question, _ in part]
            texts = processor.apply_chat_template(conversations, add_generation_prompt=True)
            pictures = [scene.image for drawn, _, _ in part for scene in drawn]
            inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
            ids = model.generate(**inputs, max_new_tokens=120, do_sample=False)[:, inputs["input_ids"].shape[1] :]
            theirs += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
        same = sum(a == b for a, b in zip(ours, theirs, strict=True))
        print(f"{task}: {same} of {len(ours)} answers are the same", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
