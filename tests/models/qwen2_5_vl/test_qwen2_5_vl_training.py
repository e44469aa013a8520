"""Loss and gradients: every parameter learns, by the slope that finite differences measure."""

import hub_model
import numpy as np
import paddle
import pytest
from mixed_batch import BOTH, CLIP, ONE_IMAGE, ROWS, TEXT, THREE_IMAGES, batch, real_logits

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration

ROWS = list(ROWS.values())


def load(folder):
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    model.train()
    return model


def labels_of(given: dict) -> paddle.Tensor:
    """The ids themselves, but not at padding and not at the first half of each row."""
    ids, mask = given["input_ids"].numpy().copy(), given["attention_mask"].numpy()
    ids[(mask == 0) | (np.cumsum(mask, 1) <= mask.sum(1, keepdims=True) // 2)] = -100
    return paddle.to_tensor(ids)


def literal_loss(logits: list[np.ndarray], labels: list[np.ndarray]) -> float:
    """Mean over all labelled tokens of the batch, each predicted from the token before."""
    losses = []
    for values, wanted in zip(logits, labels, strict=True):
        values = values.astype(np.float64)
        for i, label in enumerate(wanted[1:]):
            if label != -100:
                losses.append(np.log(np.exp(values[i] - values[i].max()).sum()) + values[i].max() - values[i][label])
    return float(np.mean(losses))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("rows", [[TEXT], ROWS], ids=len)
def test_loss_is_the_mean_over_labelled_tokens(model, rows, side):
    given = batch(rows, side)
    labels = labels_of(given)
    output = model(**given, labels=labels)
    real = [row[mask == 1] for row, mask in zip(labels.numpy(), given["attention_mask"].numpy(), strict=True)]
    assert output.loss.item() == pytest.approx(literal_loss(real_logits(output.logits, rows, side), real), rel=1e-5)


def test_all_labels_count(model):
    given = batch([TEXT])
    output = model(**given, labels=given["input_ids"])
    wanted = literal_loss([output.logits.numpy()[0]], [np.array(TEXT.ids)])
    assert output.loss.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_every_parameter_and_are_the_slope(tmp_path, tied):
    config = hub_model.config(tie_word_embeddings=tied)
    model = load(hub_model.write(tmp_path, config, hub_model.tensors(config)))
    given = batch([TEXT, ONE_IMAGE, CLIP, BOTH])
    given["labels"] = labels_of(given)
    model(**given).loss.backward()
    slopes = []
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        gradient = parameter.grad.numpy().astype(np.float64)
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-8, name
        slopes.append((parameter, parameter.numpy(), gradient))

    def loss_at(step: float, chosen) -> float:
        """Each parameter moved by `step` along its own gradient."""
        for parameter, value, gradient in chosen:
            parameter.set_value((value + step * gradient / np.linalg.norm(gradient)).astype(np.float32))
        with paddle.no_grad():
            return model(**given).loss.item()

    for group in range(8):  # every eighth parameter at a time
        chosen = slopes[group::8]
        wanted = sum(np.linalg.norm(gradient) for _, _, gradient in chosen)
        step = 3e-3
        found = (loss_at(step, chosen) - loss_at(-step, chosen)) / (2 * step)
        loss_at(0, chosen)
        assert found == pytest.approx(wanted, rel=0.01), group


def test_embeddings_under_a_picture_get_no_gradient(hub_folder):
    """Their rows are written over by features. The last token, which predicts nothing, is left out."""
    model = load(hub_folder)
    given = batch([THREE_IMAGES])
    model(**given, labels=given["input_ids"]).loss.backward()
    gradient = model.get_input_embeddings().weight.grad.numpy()
    assert (gradient[hub_model.IDS["<|image_pad|>"]] == 0).all()
    assert all(np.abs(gradient[token]).max() > 1e-6 for token in THREE_IMAGES.ids[:-1] if token < 250)


@pytest.mark.parametrize("tied", [False, True])
def test_it_trains_and_what_was_learned_is_saved(tmp_path, tied):
    config = hub_model.config(tie_word_embeddings=tied)
    model = load(hub_model.write(tmp_path / "in", config, hub_model.tensors(config)))
    before = [parameter.numpy() for parameter in model.parameters()]
    given = batch([TEXT, ONE_IMAGE, CLIP])
    given["labels"] = labels_of(given)
    optimizer = paddle.optimizer.AdamW(2e-3, parameters=model.parameters())
    losses = []
    for _ in range(8):
        loss = model(**given).loss
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(np.abs(p.numpy() - old).max() > 0 for p, old in zip(model.parameters(), before, strict=True))
    if tied:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.eval()
    model.save_pretrained(tmp_path / "out")
    again = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(again(**given).logits.numpy(), model(**given).logits.numpy())


def test_nothing_but_a_loss_needs_labels_of_the_same_shape(model):
    given = batch([TEXT])
    short = model(**given, labels=paddle.full([1, 4], -100, "int64")).loss
    assert not np.isfinite(short.item()) or short.item() == 0.0  # no label, no mean
