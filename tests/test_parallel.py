"""Shares of a group, and whole models split over ranks that are threads of one process."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from operator import attrgetter
from types import SimpleNamespace

import hub_model
import numpy as np
import paddle
import pytest
from cpu_paths import assert_split_alike, split_error

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, parallel
from paddlemix_qwenvl.errors import CheckpointError, ParallelError
from paddlemix_qwenvl.layers.embedding import ParallelLMHead, VocabParallelEmbedding
from paddlemix_qwenvl.layers.linear import RowParallelLinear, gate_up_linear
from paddlemix_qwenvl.parallel import TensorParallel, init_tensor_parallel, start_ranks, tensor_parallel, using

MLP_SHAPES = {"gate.weight": (3420, 8), "gate.bias": (3420,), "up.weight": (3420, 8), "up.bias": (3420,)}
MLP_SHAPES |= {"down.weight": (8, 3420), "down.bias": (8,)}
WIDTHS = {2: [1710], 8: [427, 428], 16: [213, 214]}  # of 3420 channels, on the ranks


class Meeting:
    """Where the threads of a group hand each other their tensors."""

    def __init__(self, degree: int):
        self.barrier, self.given = threading.Barrier(degree), [None] * degree

    def share(self, rank: int, value) -> list:
        self.given[rank] = value
        self.barrier.wait(60)
        everyones = list(self.given)
        self.barrier.wait(60)
        return everyones


@dataclasses.dataclass(frozen=True)
class ThreadRank(TensorParallel):
    """A rank whose collectives are literal: the sum, or everyone's in rank order."""

    def all_reduce(self, x, largest: bool = False):
        given = self.group.share(self.rank, x.numpy())
        return paddle.to_tensor(np.max(given, axis=0) if largest else sum(given))

    def broadcast(self, x):
        given = self.group.share(self.rank, x.numpy())
        assert {(each.shape, each.dtype) for each in given} == {(x.numpy().shape, x.numpy().dtype)}
        return paddle.to_tensor(given[0])

    def all_gather(self, x, sizes, axis: int = -1):
        parts = self.group.share(self.rank, x.numpy())
        assert [part.shape[axis] for part in parts] == list(sizes)
        return paddle.to_tensor(np.concatenate(parts, axis=axis))


def ranks_of(degree: int) -> list[ThreadRank]:
    meeting = Meeting(degree)
    return [ThreadRank(rank, degree, meeting) for rank in range(degree)]


def split_model(folder, degree: int, **how) -> list:
    """One model a rank, loaded one after the other."""
    models = []
    for rank in ranks_of(degree):
        with using(rank):
            models.append(Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, **how))
    return models


def together(ranks: list[ThreadRank], function, *arguments: list) -> list:
    """`function`, of one argument a rank from each list, on every rank at once; a rank that fails ends the others' waiting."""

    def work(rank, *given):
        try:
            with using(rank), paddle.no_grad():
                return function(*given)
        except BaseException:
            rank.group.barrier.abort()
            raise

    with ThreadPoolExecutor(len(ranks)) as pool:
        return list(pool.map(work, ranks, *arguments))


def on_all_ranks(models: list, function) -> list:
    """`function(model)` of every rank."""
    return together([model.lm_head.parallel for model in models], function, models)


def inputs(config: dict) -> dict:
    """Two rows, padded on the left, the second with an image of 6 x 10 patches."""
    draws = np.random.default_rng(0)
    image = [config["image_token_id"]] * 15
    rows = [[1, 2, 3], [4, *image, 5, 6]]
    width = max(map(len, rows))
    ids = np.array([[0] * (width - len(row)) + row for row in rows])
    return {
        "input_ids": paddle.to_tensor(ids),
        "attention_mask": paddle.to_tensor((ids > 0).astype("int64")),
        "pixel_values": paddle.to_tensor(draws.standard_normal((60, 1176)).astype("float32")),
        "image_grid_thw": paddle.to_tensor(np.array([[1, 6, 10]])),
    }


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [0, 1, 2, 6, 7, 100])
def test_shares_are_even_and_complete(degree, size):
    shares = [TensorParallel(rank, degree).split(size) for rank in range(degree)]
    assert shares[0][0] == 0 and shares[-1][1] == size
    assert all(one[1] == next_one[0] for one, next_one in pairwise(shares))
    lengths = [stop - start for start, stop in shares]
    assert lengths == sorted(lengths, reverse=True) and max(lengths) - min(lengths) <= 1
    assert all(TensorParallel(rank, degree).sizes(size) == lengths for rank in range(degree))


def test_a_group_of_one_hands_back_what_it_was_given():
    x = paddle.to_tensor([1.0, 2.0])
    assert TensorParallel().all_reduce(x) is x and TensorParallel().all_gather(x, [2]) is x
    assert tensor_parallel() == TensorParallel(0, 1) and TensorParallel().split(5) == (0, 5)


def test_using_ends_with_its_block():
    with using(TensorParallel(1, 2)):
        with using(TensorParallel(2, 3)):
            assert tensor_parallel().rank == 2
        assert tensor_parallel().degree == 2
    assert tensor_parallel().degree == 1


class Store(dict):
    """Paddle's key-value store, whose `wait` is told of."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def add(self, key: str, amount: int) -> int:
        self[key] = self.get(key, 0) + amount
        return self[key]

    def set(self, key: str, value: str) -> None:
        self[key] = value

    def wait(self, key: str) -> None:
        self.waited.append(key in self)


@pytest.mark.parametrize("backend", ["NCCL", "GLOO"])
def test_sums_over_nccl_stay_in_the_stream_of_the_calculation(monkeypatch, backend):
    calls, group = [], SimpleNamespace(backend=backend)
    dist = paddle.distributed
    monkeypatch.setattr(dist, "all_reduce", lambda *args: calls.append(("GLOO", *args)))
    monkeypatch.setattr(dist.stream, "all_reduce", lambda *args, use_calc_stream: calls.append(("NCCL", *args)))
    x = paddle.ones([2])
    assert TensorParallel(0, 2, group).all_reduce(x) is x
    assert calls == [(backend, x, dist.ReduceOp.SUM, group)]


def test_ranks_meet_over_gloo_alone(monkeypatch):
    """The first to come has to wait, the last finds the door open; a second meeting is not the first."""
    store = Store()
    monkeypatch.setattr(paddle.base.core, "create_or_get_global_tcp_store", lambda: store)
    TensorParallel().meet()
    TensorParallel(0, 2, SimpleNamespace(backend="NCCL", name="world")).meet()
    assert not store
    for meeting in ("first", "second"):
        for present in (False, True):
            monkeypatch.setattr(parallel, "_meetings", iter([meeting]))
            TensorParallel(0, 2, SimpleNamespace(backend="GLOO", name="world")).meet()
            assert store.waited.pop() == present


def test_a_meeting_that_fails_names_the_rank(monkeypatch):
    def lost(self, key):
        raise RuntimeError("wait timed out")

    monkeypatch.setattr(Store, "wait", lost)
    monkeypatch.setattr(parallel, "_GRACE", 0)
    monkeypatch.setattr(paddle.base.core, "create_or_get_global_tcp_store", Store)
    with pytest.raises(ParallelError, match=r"rank 1 of 2 lost the others: .* \(wait timed out\)\."):
        TensorParallel(1, 2, SimpleNamespace(backend="GLOO", name="world")).meet()


@pytest.mark.parametrize("device", ["gpu:1", "cpu:0"])
def test_one_card_for_all_ranks(monkeypatch, device):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(
        ParallelError, match=f"device is '{device}', which every rank would take: give gpu, and let GPUS"
    ):
        start_ranks(None, device)


def test_more_ranks_than_processes():
    message = r"mp_degree is 2 but 1 process\(es\) were launched: set mp_degree to 1, or start 2 processes with"
    with pytest.raises(ParallelError, match=message):
        init_tensor_parallel(2)
    assert init_tensor_parallel(1) == init_tensor_parallel() == TensorParallel()


@pytest.mark.parametrize(
    ("degree", "tied", "changes"),
    [
        (2, False, {}),
        (4, True, {}),  # more ranks than key-value heads
        (2, True, {"num_key_value_heads": 1}),
        (3, False, {"num_attention_heads": 3, "num_key_value_heads": 3, "rope_scaling": {"mrope_section": [2, 3, 3]}}),
        (8, False, {}),
        (16, True, {}),
    ],
    ids=str,
)
def test_a_split_model_computes_what_the_whole_one_does(tmp_path, degree, tied, changes):
    """Sizes that do not divide included: 35 channels of a vision MLP, 290 tokens, 4 vision heads over 3 ranks.

    Over 8 and 16 ranks with the 3B's heads, 16 of queries, 2 of keys and values, and 16 in the vision tower.
    """
    vision = {"num_heads": 4}
    if degree >= 8:
        changes = {"num_attention_heads": 16, "num_key_value_heads": 2, "hidden_size": 64}
        changes["rope_scaling"] = {"type": "mrope", "mrope_section": [1, 1, 0]}
        vision = {"num_heads": 16, "hidden_size": 64, "out_hidden_size": 64}
    config = hub_model.config(tie_word_embeddings=tied, **changes, vision_config=vision)
    folder = hub_model.write(tmp_path, config, hub_model.tensors(config))
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    given = inputs(config)
    wanted = whole(**given).logits.numpy()
    tokens, scores = whole.generate(**given, max_new_tokens=6, min_new_tokens=6)
    models = split_model(folder, degree)
    for logits in on_all_ranks(models, lambda model: model(**given).logits.numpy()):
        np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    for ids, mean in on_all_ranks(models, lambda model: model.generate(**given, max_new_tokens=6, min_new_tokens=6)):
        assert ids.tolist() == tokens.tolist()
        np.testing.assert_allclose(mean.numpy(), scores.numpy(), atol=1e-4)
    sampled = [
        on_all_ranks(models, lambda model: model.generate(**given, max_new_tokens=8, do_sample=True)[0].tolist())
        for _ in range(2)
    ]
    assert all(answer == ranks[0] for ranks in sampled for answer in ranks)


@pytest.mark.parametrize("degree", [2, 4])
def test_int8_weights_are_those_of_one_rank(tmp_path, degree):
    """Bit for bit, although a row of some lies in parts on several ranks; so the answers differ by rounding alone."""
    config = hub_model.config(tie_word_embeddings=True, vision_config={"num_heads": 4})
    folder = hub_model.write(tmp_path, config, hub_model.tensors(config))
    load = partial(Qwen2_5_VLForConditionalGeneration.from_pretrained, folder, quantization="int8")
    whole, given = load(), inputs(config)
    wanted = whole(**given).logits.numpy()
    ranks = ranks_of(degree)
    models = together(ranks, lambda _: load(), ranks)
    error = split_error(whole, "int8", given["input_ids"].size, wanted, len(given["pixel_values"]))
    for logits in on_all_ranks(models, lambda model: model(**given).logits.numpy()):
        assert_split_alike(logits, wanted, error)
    for path in ("model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj", "visual.blocks.0.mlp.down_proj"):
        one, *parts = map(attrgetter(path), (whole, *models))
        assert np.array_equal(np.concatenate([part.weight.numpy() for part in parts], axis=1), one.weight.numpy())
        assert all(np.array_equal(part.scale.numpy(), one.scale.numpy()) for part in parts)


@pytest.mark.parametrize("degree", [2, 8, 16])
def test_a_vision_mlp_of_3420_channels_is_split_exactly(degree):
    """In small whole numbers, where float32 makes no error in any order, so that equal means equal."""
    draws, size = np.random.default_rng(0), 3420
    tensors = {name: draws.integers(-2, 3, shape).astype(np.float32) for name, shape in MLP_SHAPES.items()}
    x = paddle.to_tensor(draws.integers(-2, 3, (3, 8)).astype(np.float32))

    def run() -> np.ndarray:
        start, stop = tensor_parallel().split(size)
        up = gate_up_linear(8, size, bias=True)
        down = RowParallelLinear(size, 8, start, stop, bias=True)
        up.weight.set_value(np.concatenate([tensors[f"{name}.weight"][start:stop] for name in ("gate", "up")]))
        up.bias.set_value(np.concatenate([tensors[f"{name}.bias"][start:stop] for name in ("gate", "up")]))
        down.weight.set_value(tensors["down.weight"][:, start:stop])
        down.bias.set_value(tensors["down.bias"])
        gate, value = up.product(x, up.bias).chunk(2, axis=-1)
        return down(gate * value).numpy()

    ranks = ranks_of(degree)
    assert sorted({stop - start for start, stop in (rank.split(size) for rank in ranks)}) == WIDTHS[degree]
    wanted = run()
    for found in together(ranks, lambda _: run(), ranks):
        assert np.array_equal(found, wanted) and np.abs(found).max() > 0


@pytest.mark.parametrize("vocabulary", [151_936, 152_064])
def test_the_released_vocabularies_over_16_ranks(vocabulary):
    """Every token is embedded by one rank, and every score is gathered in its place."""
    ids = np.array([0, 1, vocabulary // 16 - 1, vocabulary // 16, 151_645, vocabulary - 1])
    values = (np.arange(vocabulary) % 4099).astype(np.float32)

    def run():
        embedding = VocabParallelEmbedding(vocabulary, 1, 0.02)
        embedding.weight.set_value(values[embedding.start : embedding.stop, None])
        head = ParallelLMHead(vocabulary, 1, embedding)
        return embedding(paddle.to_tensor(ids)).numpy()[:, 0], head(paddle.ones([1, 1])).numpy()[0]

    ranks = ranks_of(16)
    for embedded, scores in together(ranks, lambda _: run(), ranks):
        assert np.array_equal(embedded, values[ids]) and np.array_equal(scores, values)


def test_ranks_that_would_decide_differently_follow_the_first(tmp_path):
    """A criterion that reads a clock or another thread's wish may say one thing here and another there."""
    config = hub_model.config()
    models = split_model(hub_model.write(tmp_path, config, hub_model.tensors(config)), 2)
    given = inputs(config)

    def until(model):
        steps = 3 if model.lm_head.parallel.rank == 0 else 5
        criteria = [lambda ids, scores: ids.shape[1] - given["input_ids"].shape[1] >= steps]
        return model.generate(**given, max_new_tokens=8, min_new_tokens=8, stopping_criteria=criteria)[0].tolist()

    first, second = on_all_ranks(models, until)
    assert first == second and all(len(row) == 3 for row in first)


def test_ranks_share_the_weights_out(hub_folder, hub_tensors):
    """All but the patch embedding, norms and biases."""
    whole = sum(value.size for name, value in hub_tensors.items() if value.ndim == 2)
    for model in split_model(hub_folder, 2):
        weights = [p for name, p in model.named_parameters() if p.ndim == 2 and "patch_embed" not in name]
        assert sum(p.numel().item() for p in weights) == pytest.approx(whole / 2, rel=0.01)


def test_a_split_model_is_not_saved_in_part(hub_folder, tmp_path):
    model = split_model(hub_folder, 2)[1]
    with pytest.raises(CheckpointError, match=r"is split over ranks: save from a model of mp_degree 1"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        (
            {"hidden_size": 48, "num_heads": 3},
            r"4 attention heads cannot be split over 3 ranks: use a degree that divides",
        ),
        ({}, r"2 heads of the vision tower cannot be split over 3 ranks"),
    ],
    ids=["language", "vision"],
)
def test_heads_that_cannot_be_split(tmp_path, vision, message):
    config = hub_model.config(vision_config=vision)
    folder = hub_model.write(tmp_path, config, hub_model.tensors(config))
    with using(TensorParallel(0, 3)), pytest.raises(ParallelError, match=message):
        Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
