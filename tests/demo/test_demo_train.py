"""Training: the loss falls, a stopped run goes on as if it had not stopped, adapters merge, files are read."""

import json

import numpy as np
import paddle
import pytest
import scenes
import tokenizer as demo_tokenizer
from lessons import encode, file_batches
from lora import add_lora, merged
from muon import orthogonalize
from train import Trainer, answer_loss, demo_config, new_model

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor


@pytest.fixture(scope="module")
def processor(processor_folder):
    return Qwen2_5_VLProcessor.from_pretrained(str(processor_folder))


@pytest.fixture(scope="module")
def batch(processor):
    conversations = []
    for seed in range(4):
        drawn = [scenes.draw_scene(scenes.Random(seed), (84, 112), 1)]
        conversations.append(scenes.messages(drawn, [("What do you see?", scenes.describe(drawn[0].shapes))]))
    return encode(processor, conversations)


def small_model(processor):
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in demo_tokenizer.hub.SPECIAL_TOKENS}
    paddle.seed(3)
    model = new_model(demo_config(ids))
    model.train()
    return model


def test_orthogonalize_brings_singular_values_near_one():
    matrices = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 24, 40)).astype("float32"))
    values = np.linalg.svd(orthogonalize(matrices).numpy(), compute_uv=False)
    assert values.min() > 0.5 and values.max() < 1.3


def test_the_loss_of_the_answers_is_the_models_loss(processor, batch):
    model = small_model(processor)
    tensors = {name: paddle.to_tensor(value) for name, value in batch.items()}
    loss = float(answer_loss(model, **tensors))
    assert loss == pytest.approx(float(model(**tensors).loss), rel=1e-5)
    weights = (tensors["labels"] >= 0).astype("float32")
    assert float(answer_loss(model, **tensors, weights=3 * weights)) == pytest.approx(loss, rel=1e-5)


def test_the_loss_falls_and_a_stopped_run_goes_on_the_same(processor, batch, tmp_path):
    trainer = Trainer(small_model(processor), 12, 0.003, 0.4, from_scratch=True)
    losses = [trainer.train(batch) for _ in range(6)]
    trainer.save(tmp_path / "checkpoint", processor)
    losses += [trainer.train(batch) for _ in range(6)]
    assert losses[-1] < losses[0] - 1

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(tmp_path / "checkpoint"), dtype="float32")
    model.train()
    again = Trainer(model, 12, 0.003, 0.4, from_scratch=True)
    again.resume(tmp_path / "checkpoint")
    assert again.step == 6
    np.testing.assert_allclose([again.train(batch) for _ in range(6)], losses[6:], rtol=1e-3)


def test_adapters_learn_and_merge_into_the_weights(processor, batch):
    model = small_model(processor)
    tensors = {name: paddle.to_tensor(value) for name, value in batch.items()}
    before = float(answer_loss(model, **tensors))
    names = set(model.state_dict())
    adapters = add_lora(model, rank=4)
    assert float(answer_loss(model, **tensors)) == pytest.approx(before, rel=1e-6)
    trainer = Trainer(model, 8, 0.01, 0.4, from_scratch=False, adapters=adapters)
    for _ in range(8):
        trainer.train(batch)
    learnt = float(answer_loss(model, **tensors))
    assert learnt < before - 0.1
    with merged(model, adapters):
        assert set(model.state_dict()) == names
        assert float(answer_loss(model, **tensors)) == pytest.approx(learnt, rel=1e-4)
    assert float(answer_loss(model, **tensors)) == pytest.approx(learnt, rel=1e-4)


def test_batches_from_a_file_of_conversations(processor, processor_folder, tmp_path):
    scene = scenes.draw_scene(scenes.Random(0), (112, 84), 1)
    scene.image.save(tmp_path / "one.png")
    line = {"messages": scenes.messages([scene], [("What is this?", "a thing")])}
    line["messages"][0]["content"][0]["image"] = "one.png"
    line["messages"][1]["content"] = "a thing"
    (tmp_path / "train.jsonl").write_text(json.dumps(line) + "\n")
    batch = next(file_batches(processor, str(tmp_path / "train.jsonl"), 2, 0, 0, 0))
    assert batch["image_grid_thw"].tolist() == [[1, 6, 8]]
    assert "a thing<|im_end|>" in processor.tokenizer.decode(batch["labels"][0][batch["labels"][0] >= 0])
