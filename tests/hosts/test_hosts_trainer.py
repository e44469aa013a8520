"""PaddleNLP's own Trainer on our models: it trains, saves what it trained, and PaddleNLP's Auto classes load that."""

import numpy as np
import pytest
from paddlenlp.trainer import Trainer, TrainerCallback, TrainingArguments
from paddlenlp.transformers import AutoModelForConditionalGeneration, AutoProcessor
from PIL import Image

PICTURES = [Image.new("RGB", size, color) for size, color in (((56, 84), "red"), ((112, 56), "blue"))]
TEXT = "<|vision_start|><|image_pad|><|vision_end|> the an in é"


class Losses(TrainerCallback):
    """Those of all steps."""

    def __init__(self):
        self.steps = []

    def on_log(self, args, state, control, logs, **kwargs):
        self.steps += [logs["loss"]] if "loss" in logs else []


def test_two_steps_are_saved_and_loaded_again(hub_folder, tmp_path):
    model = AutoModelForConditionalGeneration.from_pretrained(hub_folder)
    processor = AutoProcessor.from_pretrained(hub_folder)

    def batch(pictures, processor=processor):
        inputs = processor(images=pictures, text=[TEXT] * len(pictures), padding=True, return_tensors="pd")
        return {**inputs, "labels": inputs["input_ids"]}

    inputs, weights = batch(PICTURES), {name: value.numpy() for name, value in model.state_dict().items()}
    model.train()
    first = model(**inputs).loss.item()
    settings = {"max_steps": 2, "save_steps": 2, "logging_steps": 1, "learning_rate": 1e-3}
    settings |= {"per_device_train_batch_size": 2, "device": "cpu", "report_to": [], "remove_unused_columns": False}
    arguments = TrainingArguments(str(tmp_path), **settings)
    given, losses = {"data_collator": batch, "train_dataset": PICTURES, "tokenizer": processor}, Losses()
    trainer = Trainer(model, args=arguments, callbacks=[losses], **given)
    trainer.train()
    trainer.save_model()
    assert len(losses.steps) == 2 and losses.steps[0] == pytest.approx(first, rel=1e-5)
    assert 0 < losses.steps[1] < losses.steps[0]
    assert not [name for name, value in model.state_dict().items() if np.array_equal(weights[name], value.numpy())]

    model.eval()
    expected = model(**inputs).logits.numpy()
    for saved in (tmp_path, tmp_path / "checkpoint-2"):
        again = AutoModelForConditionalGeneration.from_pretrained(saved)
        assert type(again) is type(model)
        given = batch(PICTURES, AutoProcessor.from_pretrained(saved))
        np.testing.assert_array_equal(again(**given).logits.numpy(), expected)
