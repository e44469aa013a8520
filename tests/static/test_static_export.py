"""Graphs of Qwen2.5-VL: what they answer is what the dynamic model answers."""

import shutil

import pytest

from paddlemix_qwenvl import Qwen2_5_VLForConditionalGeneration
from paddlemix_qwenvl.errors import DeployError, GenerationError, PromptError
from paddlemix_qwenvl.static.export import export
from paddlemix_qwenvl.static.loading import load_export

GREEDY = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False, "repetition_penalty": 1.1}


def said(text: str, *media) -> list:
    content = [*media, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def conversations(noise):
    def picture(*arguments):
        return {"type": "image", "image": noise(*arguments)}

    film = {"type": "video", "video": [noise(84, 56, seed) for seed in range(5, 11)], "fps": 1.0}
    return {
        "one picture": [said("What is this?", picture(90, 60, 0))],
        "another size": [said("What is this?", picture(300, 58, 0))],
        "two pictures": [said("Compare.", picture(56, 140, 1), picture(200, 57, 2))],
        "text": [said("Hello")],
        "a video and a picture": [said("When?", film, picture(60, 60, 5))],
        "a batch": [said("Hi"), said("And this?", picture(112, 84, 3)), said("Count", picture(30, 30, 4))],
    }


@pytest.fixture(scope="module")
def predictor(folder):
    return load_export(folder)


def answers(model, processor, conversations, **settings):
    inputs = processor.apply_chat_template(
        conversations, add_generation_prompt=True, tokenize=True, return_tensors="pd"
    )
    return inputs, model.generate(**inputs, **settings)[0].tolist()


def tokens_of(predictor, conversations, **settings) -> list:
    return [answer.token_ids for answer in predictor.answer_all(conversations, **settings)]


@pytest.mark.parametrize("verify", [True, False])
def test_loading_tells_how_far_it_is(folder, verify):
    """In bytes: of the files as they are compared with their checksums, and of the graphs."""
    told = []
    load_export(folder, verify=verify, on_progress=lambda *far: told.append(far))
    done, wholes = zip(*told, strict=True)
    assert len(done) > 3 if verify else len(done) == 2
    assert [*done] == sorted({*done}) and {*wholes} == {done[-1]}
    sizes = sum(path.stat().st_size for path in folder.iterdir() if path.suffix == ".pdiparams")
    assert done[-1] > sizes * (2 if verify else 1)


@pytest.mark.parametrize(
    "name", ["one picture", "another size", "two pictures", "text", "a video and a picture", "a batch"]
)
def test_static_tokens_are_the_dynamic_ones(model, processor, predictor, conversations, name):
    inputs, expected = answers(model, processor, conversations[name], **GREEDY)
    found = predictor.answer_all(conversations[name], **GREEDY)
    assert [answer.token_ids for answer in found] == expected
    assert [answer.prompt_tokens for answer in found] == inputs["attention_mask"].sum(-1).tolist()
    assert [answer.text for answer in found] == processor.post_process(expected)
    for sizes in ("original_sizes", "resized_sizes", "video_resized_sizes"):
        assert [size for answer in found for size in answer.sizes.get(sizes, [])] == inputs.get(sizes, [])


def test_rows_end_one_by_one(model, processor, predictor, conversations):
    """The tokens that the longest answers hold end the rows at different steps."""
    batch = conversations["a batch"]
    long = answers(model, processor, batch, **GREEDY)[1]
    ends = [long[0][3], long[1][9]]
    settings = {"max_new_tokens": 20, "do_sample": False, "repetition_penalty": 1.1, "eos_token_id": ends}
    expected = answers(model, processor, batch, **settings)[1]
    found = tokens_of(predictor, batch, **settings)
    assert len({len(row) for row in found}) > 1
    for row, wanted in zip(found, expected, strict=True):
        assert row == wanted[: len(row)] and (len(row) == len(wanted) or row[-1] in ends)


@pytest.mark.parametrize(
    "settings", [{"temperature": 1.5, "top_k": 40, "top_p": 0.95}, {"temperature": 0.8, "top_k": 0}]
)
def test_sampled_tokens_are_the_dynamic_ones(model, processor, predictor, conversations, settings):
    settings = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": True, "seed": 5, **settings}
    batch = conversations["a batch"]
    expected = answers(model, processor, batch, **settings)[1]
    assert tokens_of(predictor, batch, **settings) == expected
    assert tokens_of(predictor, batch, **{**settings, "seed": 6}) != expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_narrow_weights_answer_as_the_dynamic_model_does(hub_folder, processor, conversations, tmp_path, dtype):
    """For eight tokens: later ones of a random model come so near to ties that the last bits of a float decide."""
    weights = {"quantization": "int8"} if dtype == "int8" else {"dtype": dtype}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(hub_folder, **weights)
    manifest = export(model, processor, tmp_path / "export", say=lambda line: None)
    assert manifest.dtype == dtype
    settings = {**GREEDY, "max_new_tokens": 8, "min_new_tokens": 8}
    predictor = load_export(tmp_path / "export")
    for name in ("one picture", "a batch"):
        expected = answers(model, processor, conversations[name], **settings)[1]
        assert tokens_of(predictor, conversations[name], **settings) == expected


def test_an_export_can_be_run_again_and_again(predictor, conversations):
    first = [tokens_of(predictor, conversations[name], **GREEDY) for name in ("two pictures", "text")]
    again = [tokens_of(predictor, conversations[name], **GREEDY) for name in ("two pictures", "text")]
    assert first == again


def test_the_progress_is_told(model, processor, tmp_path):
    lines = []
    export(model, processor, tmp_path / "export", say=lines.append)
    assert [line.split(":")[0] for line in lines] == [
        "exporting the vision graph",
        "exporting the language graph",
        "writing tokenizer, processor and configs",
        "writing the manifest",
        "done",
    ]


def test_what_cannot_be_answered_is_refused(predictor):
    with pytest.raises(PromptError, match="context"):
        predictor.answer(said("word " * predictor.engine.facts.context))
    with pytest.raises(GenerationError, match="max_tokens"):
        predictor.answer(said("Hi"), max_tokens=2)
    with pytest.raises(PromptError, match="no tokens"):
        predictor.complete("")
    with pytest.raises(PromptError, match="0 images"):
        predictor.complete("<|vision_start|><|image_pad|><|vision_end|>")


def test_beams_are_the_dynamic_ones(model, processor, predictor, conversations):
    settings = {"max_new_tokens": 12, "num_beams": 3, "do_sample": False}
    batch = conversations["a batch"]
    assert tokens_of(predictor, batch, **settings) == answers(model, processor, batch, **settings)[1]


def test_a_stream(predictor, conversations):
    pieces = []
    answer = predictor.answer(conversations["one picture"][0], on_text=pieces.append, **GREEDY)
    assert "".join(pieces).strip() == answer.text and len(pieces) > 1


def test_stop_strings(predictor, conversations):
    whole = predictor.answer(conversations["text"][0], **GREEDY).text
    stop = whole[5:8]
    answer = predictor.answer(conversations["text"][0], stop_strings=stop, **{**GREEDY, "min_new_tokens": 0})
    assert answer.reason == "stop" and stop in answer.text and len(answer.text) < len(whole)


def test_the_second_turn_computes_what_is_new(predictor, conversations):
    first = predictor.answer(conversations["two pictures"][0], **GREEDY)
    messages = [*conversations["two pictures"][0], {"role": "assistant", "content": first.text}, *said("And?")]
    again = predictor.answer(messages, **GREEDY)
    predictor.engine.forget()
    assert again.cached_tokens > first.prompt_tokens // 2
    assert predictor.answer(messages, **GREEDY).token_ids == again.token_ids


def test_an_export_in_an_export_is_not_lost(folder, model, processor, tmp_path):
    shutil.copytree(folder, tmp_path / "export")
    shutil.copytree(folder, tmp_path / "export" / "qwen")
    with pytest.raises(DeployError, match="holds others"):
        export(model, processor, tmp_path / "export", say=print)
    assert (tmp_path / "export" / "qwen" / "manifest.json").is_file()
