"""Labels of patches: the right squares, digits as the answer writes them; heads that learn and are resumed."""

import numpy as np
import paddle
import patches
import pytest
import scenes
import tokenizer as demo_tokenizer
from heads import PatchHeads
from lessons import encode_scenes, encode_text
from patches import COLORS, IGNORED, KINDS, LETTERS, patch_labels
from PIL import Image
from train import Trainer, demo_config, new_model

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor


def test_tokens_under_a_shape_carry_its_name_and_its_box():
    shape = scenes.Shape("star", "blue", (30, 56, 100, 126))
    labels = patch_labels(scenes.Scene(Image.new("RGB", (140, 168)), [shape]))
    grid = labels["patch_labels"].reshape(6, 5, -1)
    covered = np.zeros((6, 5), bool)
    covered[2:5, 1:4] = True
    assert ((grid[..., 0] == KINDS.index("star")) == covered).all() and (grid[~covered, 0] == 0).all()
    assert np.argwhere(grid[..., 1]).tolist() == [[3, 2]]  # the middle, (65, 91)
    assert (grid[covered, 2] == COLORS.index("blue")).all() and (grid[~covered, 2:] == IGNORED).all()
    digits = ["30", "56", "100", "126"]
    written = ["".join(patches.DIGITS[d] for d in grid[3, 2, 6 + 3 * i : 9 + 3 * i]) for i in range(4)]
    assert written == digits
    np.testing.assert_allclose(
        labels["patch_boxes"].reshape(6, 5, 4)[2, 1] * 28 + [42, 70, 42, 70], shape.box, atol=1e-4
    )


def test_boxes_count_in_the_resized_pictures_pixels():
    shape = scenes.Shape("circle", "red", (0, 0, 60, 60))
    scene = scenes.Scene(Image.new("RGB", (120, 150)), [shape])  # becomes 112 x 140
    digits = patch_labels(scene)["patch_labels"][0, 6:]
    assert scenes.boxes_json(scene, [shape]).count("[0, 0, 56, 56]") == 1
    assert ["".join(patches.DIGITS[d] for d in digits[3 * i : 3 * i + 3]) for i in range(4)] == ["0", "0", "56", "56"]


@pytest.mark.parametrize("text", ["TAXI", "47", "8"])
def test_letters_are_where_they_were_printed(text):
    scene = scenes.draw_scene(scenes.Random(1), (224, 168), 0, text)
    assert [letter for letter, _ in scene.letters] == list(text)
    boxes = np.stack([box for _, box in scene.letters])
    assert (boxes >= 0).all() and (boxes[:, 2] <= 224).all() and (boxes[:, 3] <= 168).all()
    assert (np.diff(boxes[:, 0]) > 0).all()
    labels = patch_labels(scene)["patch_labels"]
    on_text = labels[labels[:, 0] == KINDS.index("text")]
    assert len(on_text) and {LETTERS[i] for i in on_text[:, 3]} <= set(text)
    first = text[0] if text.isdigit() else text
    assert {patches.FIRST[i] for i in on_text[:, 4]} == {first}
    assert {patches.SECOND[i] for i in on_text[:, 5]} == {text[1:] if text.isdigit() else ""}


@pytest.fixture(scope="module")
def processor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    demo_tokenizer.save_processor(folder)
    return Qwen2_5_VLProcessor.from_pretrained(str(folder))


def test_heads_learn_and_are_resumed(processor, tmp_path):
    ids = {token: processor.tokenizer.convert_tokens_to_ids(token) for token in demo_tokenizer.hub.SPECIAL_TOKENS}
    paddle.seed(3)
    model = new_model(demo_config(ids))
    model.train()
    drawn = [scenes.draw_scene(scenes.Random(seed), (84, 112), 1) for seed in range(4)]
    seen = encode_scenes(processor, drawn)
    turns = [scenes.messages([scene], [("What do you see?", scenes.describe(scene.shapes))]) for scene in drawn]
    batch = encode_text(processor, turns, seen["image_grid_thw"]) | seen
    trainer = Trainer(model, 16, 0.003, 0.4, from_scratch=True, heads=PatchHeads(model))
    trainer.train(batch)
    first = trainer.patch_loss
    for _ in range(7):
        trainer.train(batch)
    trainer.save(tmp_path / "checkpoint", processor)
    losses = [(trainer.train(batch), trainer.patch_loss) for _ in range(4)]
    assert losses[-1][1] < first - 3

    again = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(tmp_path / "checkpoint"), dtype="float32")
    again.train()
    resumed = Trainer(again, 16, 0.003, 0.4, from_scratch=True, heads=PatchHeads(again))
    resumed.resume(tmp_path / "checkpoint")
    found = [(resumed.train(batch), resumed.patch_loss) for _ in range(4)]
    np.testing.assert_allclose(found, losses, rtol=1e-3)
