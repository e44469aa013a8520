"""Both families through the stand-in card: they answer as they do on the CPU, within the rounding of the card's dtype."""

from types import SimpleNamespace

import hub_model
import numpy as np
import paddle
import pytest
import qwen_vl_model
from gpu_stand_in import Own, card
from reference.qwen_vl import qwen_vl_cases
from test_parallel import on_all_ranks, ranks_of

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration, QWenLMHeadModel
from paddlemix_qwenvl.errors import ConfigurationError, GenerationError
from paddlemix_qwenvl.layers.formats import Int8
from paddlemix_qwenvl.layers.linear import RowParallelLinear
from paddlemix_qwenvl.models.loading import loading_dtype
from paddlemix_qwenvl.parallel import using

# Sizes that Paddle's kernels take, but for the inner widths, which are filled up for them, and the tower's gates.
QWEN2_5_VL = hub_model.config(
    hidden_size=64,
    intermediate_size=96,
    rope_scaling={"type": "mrope", "mrope_section": [2, 3, 3]},
    vocab_size=288,
    vision_config={"out_hidden_size": 64},
)
QWEN_VL = qwen_vl_cases.config(
    hidden_size=256,
    num_attention_heads=4,
    seq_length=64,
    visual={"image_size": 112, "output_dim": 256},
)
GREEDY = {"max_new_tokens": 8, "do_sample": False, "repetition_penalty": 1.0, "eos_token_id": []}
CARDS = [((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((8, 0), "float16"), ((7, 0), "float16"), ((12, 0), "bfloat16")]
# Of a number, relative; of float32 also that of the sums, which the others are made in float32 without.
ROUNDING = {"bfloat16": 2**-9, "float16": 2**-12, "float32": 2**-22}
GROWTH = 32  # of the error, through all layers: it adds up as random walks do


def padded(rows: list[list[int]], pad: int) -> dict:
    width = max(map(len, rows))
    ids = [[pad] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return {"input_ids": paddle.to_tensor(ids), "attention_mask": paddle.to_tensor(mask)}


def qwen2_5_vl(folder):
    """A text, and a row with two pictures; weights are what bfloat16 and float16 both hold."""
    hub_model.write(folder, QWEN2_5_VL, narrow(hub_model.tensors(QWEN2_5_VL)))
    draws, picture = np.random.default_rng(1), QWEN2_5_VL["image_token_id"]
    words = draws.integers(1, 250, 9).tolist()
    given = padded([words[:4], [*words[4:6], *[picture] * 15, words[6], *[picture] * 8, *words[7:]]], 0)
    given["pixel_values"] = paddle.to_tensor(draws.standard_normal((92, 1176)).astype(np.float32))
    given["image_grid_thw"] = paddle.to_tensor([[1, 6, 10], [1, 4, 8]])
    return Qwen2_5_VLForConditionalGeneration, given


def qwen_vl(folder):
    """A text, and a row with a picture, long enough for dynamic NTK and log-n."""
    qwen_vl_model.write(folder, QWEN_VL, narrow(qwen_vl_cases.tensors(QWEN_VL)))
    draws, start = np.random.default_rng(1), qwen_vl_cases.IMAGE_START_ID
    words = draws.integers(0, 256, 12).tolist()
    given = padded([words[:7], [*words[7:], start, *[start + 2] * 256, start + 1, 5]], qwen_vl_cases.RANKS)
    given["images"] = paddle.to_tensor(draws.standard_normal((1, 3, 112, 112)).astype(np.float32))
    return QWenLMHeadModel, given


def narrow(tensors: dict) -> dict:
    return {name: (value.view(np.uint32) & 0xFFFF0000).view(np.float32) for name, value in tensors.items()}


@pytest.fixture(scope="module", params=[qwen2_5_vl, qwen_vl])
def family(request, tmp_path_factory):
    """`load(**how)`, what the model is asked, and its float32 logits and int8 ones on the CPU."""
    folder = tmp_path_factory.mktemp("gpu")
    model_class, given = request.param(folder)

    def load(**how):
        return model_class.from_pretrained(folder, **how)

    cpu = {quantization: load(dtype="float32", quantization=quantization) for quantization in (None, "int8")}
    return load, given, cpu


@paddle.no_grad()
def logits(model, given: dict, tokens: np.ndarray | None = None) -> np.ndarray:
    """Of the real tokens; with `tokens`, new ones of each row, those that each of them was chosen by, `[B, new, vocab]`."""
    if tokens is None:
        return model(**given).logits.numpy()[given["attention_mask"].numpy() > 0]
    longer = {**given, "input_ids": paddle.concat([given["input_ids"], paddle.to_tensor(tokens)], axis=1)}
    longer["attention_mask"] = paddle.concat([given["attention_mask"], paddle.ones(tokens.shape, "int64")], axis=1)
    return model(**longer).logits.numpy()[:, -tokens.shape[1] - 1 : -1]


@pytest.mark.parametrize("quantization", [None, "int8"])
@pytest.mark.parametrize("capability, dtype", [*CARDS, ((8, 0), "float32")])
def test_a_card_answers_as_the_cpu_does(family, capability, dtype, quantization):
    """Logits, and greedy tokens, each of which is the CPU's likeliest after those before it, or as likely within the error."""
    load, given, cpu = family
    with card(capability):
        model = load(dtype=dtype, quantization=quantization)
        found = logits(model, given)
        tokens, _ = model.generate(**given, **GREEDY)
    wanted = logits(cpu[quantization], given)
    rounding = ROUNDING[dtype]
    if quantization:
        rounding = max(rounding, ROUNDING["bfloat16"])  # which products of int8 may round to on a CPU
    limit = GROWTH * rounding * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit
    assert tokens.shape == [2, 8]
    scores = logits(cpu[quantization], given, tokens.numpy())
    chosen = np.take_along_axis(scores, tokens.numpy()[..., None], -1)[..., 0]
    assert (scores.max(-1) - chosen < 8 * limit).all()
    arranged = quantization == "int8" and dtype != "float32" and capability != (12, 0)
    assert (Int8(arranged=True) in model.formats()) == arranged


@pytest.mark.parametrize("capability", [(7, 0), (8, 0), (12, 0)])
@pytest.mark.parametrize("quantization", [None, "int8"])
def test_two_cards_answer_as_the_cpu_does(family, capability, quantization):
    """Row-parallel parts hold half of a row's inputs."""
    load, given, cpu = family
    models = []
    with card(capability):
        for rank in ranks_of(2):
            with using(rank):
                models.append(load(dtype="float16"))
        if quantization:
            on_all_ranks(models, lambda model: model.quantize("int8"))
        first, second = on_all_ranks(models, lambda model: logits(model, given))
    wanted = logits(cpu[quantization], given)
    limit = GROWTH * ROUNDING["bfloat16" if quantization else "float16"] * np.sqrt((wanted**2).mean())
    assert np.array_equal(first, second) and np.sqrt(((first - wanted) ** 2).mean()) < limit


def test_int8_outside_of_no_grad(family):
    """Norms and biases may ask for a gradient; arranged weights are read no other way for that. Dense products add a bias apart."""
    load, given, _ = family
    with card((8, 0)):
        model = load(dtype="bfloat16", quantization="int8")
        wanted, found = logits(model, given), model(**given).logits.numpy()[given["attention_mask"].numpy() > 0]
    limit = GROWTH * ROUNDING["bfloat16"] * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit


def test_a_paddle_that_has_none_of_the_functions_answers_all_the_same(family, monkeypatch):
    load, given, cpu = family
    monkeypatch.setattr(Own, "function", lambda self, name: None)
    with card((8, 0)):
        found = logits(load(dtype="bfloat16", quantization="int8"), given)
    wanted = logits(cpu["int8"], given)
    limit = GROWTH * ROUNDING["bfloat16"] * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit


def enlarged(model, factors: dict | None = None, given: dict | None = None) -> dict:
    """Make what each block adds to the residual up to 40 000 large, by powers of two, or by `factors`, which are returned."""
    layers = {name: layer for name, layer in model.named_sublayers() if isinstance(layer, RowParallelLinear)}
    if factors is None:
        largest: dict[str, float] = {}
        hooks = [
            layer.register_forward_post_hook(lambda _, __, y, name=name: largest.update({name: float(y.abs().max())}))
            for name, layer in layers.items()
        ]
        logits(model, given)
        for hook in hooks:
            hook.remove()
        factors = {name: 2.0 ** np.floor(np.log2(40000 / largest[name])) for name in layers}
    for name, layer in layers.items():
        for parameter in filter(lambda each: each is not None, (layer.weight, layer.bias)):
            parameter.set_value(parameter * factors[name])
    return factors


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_float16_where_residuals_pass_its_largest_number(family, capability):
    """As those of released vision towers do."""
    load, given, _ = family
    model = load(dtype="float32")
    factors = enlarged(model, given=given)
    wanted = logits(model, given)
    with card(capability):
        model = load(dtype="float16")
        enlarged(model, factors)
        found = logits(model, given)
    limit = GROWTH * ROUNDING["float16"] * np.sqrt((wanted**2).mean())
    assert np.sqrt(((found - wanted) ** 2).mean()) < limit


@pytest.mark.parametrize("capability", [(7, 0), (7, 5)])
def test_a_card_without_bfloat16(capability):
    """What a config says becomes float16 there; what is asked for is refused."""
    released = SimpleNamespace(dtype="bfloat16")
    with card(capability):
        assert loading_dtype("auto", None, released) == "float16"
        assert loading_dtype(None, None, SimpleNamespace(dtype="float32")) == "float32"
        with pytest.raises(ConfigurationError, match="has no bfloat16: give --dtype float16"):
            loading_dtype(None, "bfloat16", released)
    with card((8, 0)):
        assert loading_dtype(None, None, released) == "bfloat16"


def test_numbers_that_are_none_are_told(family):
    """A product of its own may still pass float16's largest number."""
    load, given, _ = family
    with card((7, 0)):
        model = load(dtype="float16")
        enlarged(model, dict.fromkeys((name for name, _ in model.named_sublayers()), 2.0**14))
        with pytest.raises(GenerationError, match="NaN or infinity in float16"):
            model.generate(**given, **GREEDY)
