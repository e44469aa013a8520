"""A loaded model that is asked, on a tiny random model."""

import json
from pathlib import Path

import pytest

from paddlemix_qwenvl.engine.grammar import Grammar, Vocabulary
from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import CheckpointError, GenerationError
from paddlemix_qwenvl.media import load_video, messages
from paddlemix_qwenvl.models.conversations import question_about
from paddlemix_qwenvl.models.processor import AnswerDecoder

EXAMPLES = Path(__file__).parents[2] / "examples"
PICTURE = EXAMPLES / "images" / "shapes.png"
FILM = str(EXAMPLES / "qwen2_5_vl" / "inputs" / "film.mp4")
QUESTION = "What is in this image?"


@pytest.fixture(scope="module")
def assistant(hub_folder):
    return Assistant.load(str(hub_folder), dtype="float32")


def test_sampling_follows_the_seed(assistant):
    def tokens(seed):
        settings = {"do_sample": True, "temperature": 1.5, "top_p": 0.95, "max_new_tokens": 8}
        return assistant.ask(QUESTION, [PICTURE], seed=seed, **settings).token_ids

    assert tokens(1) == tokens(1)
    assert len({tuple(tokens(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("remember", [True, False])
def test_the_next_turn_of_a_chat_decodes_and_encodes_no_picture_again(hub_folder, monkeypatch, remember):
    decoded, encoded = [], []
    assistant = Assistant.load(str(hub_folder), dtype="float32", remember_images=remember)
    visual = assistant.engine.runner.model.visual
    tower, read = visual.forward, messages.read_image
    monkeypatch.setattr(visual, "forward", lambda *given: encoded.append(1) or tower(*given))
    monkeypatch.setattr(messages, "read_image", lambda *given: decoded.append(1) or read(*given))
    content = [{"type": "image", "image": str(PICTURE)}, {"type": "text", "text": "what?"}]
    chat = [{"role": "user", "content": content}]
    first = assistant.answer(chat, max_new_tokens=3)
    chat += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "and now?"}]
    second = assistant.answer(chat, max_new_tokens=3)
    assert second.prompt_tokens > first.prompt_tokens
    assert (len(decoded), len(encoded)) == ((1, 1) if remember else (2, 2))


def test_a_stop_string_needs_no_tokenizer_here(assistant):
    options = {"max_new_tokens": 12, "temperature": 1.5, "do_sample": True, "seed": 3, "eos_token_id": []}
    whole = assistant.ask("what?", **options)
    stop = whole.text[2:4]
    stopped = assistant.ask("what?", stop_strings=stop, **options)
    assert len(stopped.token_ids) < 12 and stopped.token_ids == whole.token_ids[: len(stopped.token_ids)]
    assert stop in stopped.text and whole.text.startswith(stopped.text)


def test_a_stop_string_may_name_special_tokens(assistant):
    """Beside those that it names, the text that it is looked for in has none."""
    tokenizer = assistant.processor.tokenizer
    start, end = tokenizer.convert_tokens_to_ids(["<|box_start|>", "<|box_end|>"])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": []}
    free = assistant.ask("what?", **options)
    for forced, stop, taken in [
        (end, "<|box_end|>", 1),
        (end, ["never", "<|box_end|><|box_end|>"], 2),
        (start, "<|box_end|>", 6),
        (start, "<|box_", 6),
    ]:
        answer = assistant.ask("what?", stop_strings=stop, logit_bias={forced: 100.0}, **options)
        assert answer.token_ids == [forced] * taken and answer.text == ""
        assert answer.reason == ("stop" if taken < 6 else "length")
    assert assistant.ask("what?", stop_strings="<|box_end|>", **options).token_ids == free.token_ids


def test_text_of_stop_strings_has_the_special_tokens_in_them(assistant):
    tokenizer = assistant.processor.tokenizer
    ids = tokenizer.encode("a<|box_start|>b<|box_end|>c<|im_end|>")
    decoder = AnswerDecoder(assistant.processor, ["x<|box_end|>", "<|im_end|>"])
    texts = ["".join(decoder.decode([each], skip_special_tokens=skip) for each in ids) for skip in (True, False)]
    assert texts == ["abc", "ab<|box_end|>c<|im_end|>"]


def test_progress_begins_with_nothing(assistant):
    seen = []
    answer = assistant.ask("what? " * 300, on_progress=lambda *given: seen.append(given), max_new_tokens=2)
    totals, done = {total for _, total in seen}, [done for done, _ in seen]
    assert totals == {answer.prompt_tokens} and done[0] == 0 and done[-1] == answer.prompt_tokens > 2 * 512
    assert len(done) == 2 + answer.prompt_tokens // 512 and done == sorted(done)


@pytest.mark.parametrize("tokens", [0, 1, 3])
def test_an_answer_is_stopped_between_two_tokens(assistant, tokens):
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": []}
    whole, asked = assistant.ask("what then?", **options), []
    steps = tokens or 1
    prompt = "what then?" if tokens else "what then? " * 300  # with some of it left after the first step
    stopped = assistant.ask(prompt, stopped=lambda: asked.append(1) or len(asked) == steps, **options)
    assert stopped.reason == "cancelled" and stopped.token_ids == whole.token_ids[:tokens]
    assert whole.text.startswith(stopped.text) and bool(stopped.text) == bool(tokens)
    blocks = assistant.engine.blocks
    assert not assistant.engine.busy and blocks.available == blocks.num_blocks


def test_what_a_callback_raises_leaves_nothing_behind(assistant):
    def fail(*given):
        raise ZeroDivisionError

    for callback in ("on_text", "on_progress", "stopped"):
        with pytest.raises(ZeroDivisionError):
            assistant.ask(QUESTION, [PICTURE], max_new_tokens=4, **{callback: fail})
        blocks = assistant.engine.blocks
        assert not assistant.engine.busy and blocks.available == blocks.num_blocks


def test_answers_at_once_are_those_alone(assistant):
    conversations = [[question_about(QUESTION, [PICTURE])], [question_about("what?")]]
    alone = [assistant.answer(one, max_new_tokens=6, do_sample=False) for one in conversations]
    together = assistant.answer_all(conversations, max_new_tokens=6, do_sample=False)
    for one, other in zip(alone, together, strict=True):
        assert (one.token_ids, one.text, one.sizes) == (other.token_ids, other.text, other.sizes)
    assert alone[0].sizes["original_sizes"] == [(252, 196)] and alone[1].sizes == {}


def test_several_answers_to_each_conversation(assistant):
    conversations = [[question_about("what?")], [question_about("and what?")]]
    options = {"do_sample": True, "temperature": 1.5, "seed": 1, "max_new_tokens": 6}
    found = assistant.answer_all(conversations, num_return_sequences=3, **options)
    assert len(found) == 6 and len({tuple(each.token_ids) for each in found}) == 6
    assert [each.prompt_tokens for each in found[:3]] == [found[0].prompt_tokens] * 3
    pieces = []
    one = assistant.answer(conversations[0], num_return_sequences=3, on_text=pieces.append, **options)
    assert one.token_ids == found[0].token_ids and "".join(pieces).strip() == one.text
    assert assistant.answer_all([]) == []


def test_a_schema_guides_the_answer(assistant, monkeypatch):
    made, make = [], Vocabulary.of
    monkeypatch.setattr(Vocabulary, "of", lambda *given: made.append(1) or make(*given))
    schema = {"type": "array", "items": {"enum": ["ab", "ba"]}, "minItems": 2, "maxItems": 2}
    for question in ("what?", "and what?"):
        answer = assistant.ask(question, schema=schema, max_new_tokens=40)
        assert answer.reason == "stop" and set(json.loads(answer.text)) <= {"ab", "ba"}
    assert len(made) == 1
    grammar = Grammar.choice(["yes", "no"], assistant.vocabulary(assistant.settings({})))
    assert assistant.ask("what?", grammar=grammar).text in ("yes", "no")


@pytest.mark.parametrize("stop", [["a", ""], [""], 5, ["a", 5]], ids=str)
def test_stop_strings_that_are_none(assistant, stop):
    with pytest.raises(
        GenerationError, match=r"stop_strings (holds an empty text|is .*: give a text or a list of texts)"
    ):
        assistant.ask("what?", stop_strings=stop)


def test_the_answer_of_beams_is_told_at_their_end(assistant):
    pieces = []
    options = {"num_beams": 3, "do_sample": False, "max_new_tokens": 6, "eos_token_id": []}
    answer = assistant.ask("what?", on_text=pieces.append, **options)
    assert len(pieces) == 1 and pieces[0].strip() == answer.text and len(answer.token_ids) == 6


def test_after_an_interruption_the_next_answer_is_what_it_was(assistant):
    options = {"max_new_tokens": 6, "do_sample": False}
    wanted = assistant.ask("what?", **options).token_ids

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assistant.ask("and what?", on_text=interrupt, **options)
    engine = assistant.engine
    assert not engine.busy and engine.blocks.available == engine.blocks.num_blocks
    assert assistant.ask("what?", **options).token_ids == wanted


def test_a_benchmark_remembers_nothing(assistant):
    figures = assistant.benchmark(2, [question_about(QUESTION, [PICTURE])], max_new_tokens=3)
    assert figures["repeats"] == 2 and 0 < figures["vision"] < figures["total"]


def test_a_video_that_was_loaded_before(assistant):
    video = load_video(FILM, {"max_frames": 4})
    answers = [assistant.ask("what?", videos=[each], max_new_tokens=3, do_sample=False) for each in (video, video)]
    path = question_about("what?", videos=[FILM], max_frames=4)
    answers.append(assistant.answer([path], max_new_tokens=3, do_sample=False))
    assert len({tuple(each.token_ids) for each in answers}) == 1
    assert answers[0].cached_tokens == 0 < answers[1].cached_tokens == answers[2].cached_tokens


def test_a_folder_that_is_not_there():
    with pytest.raises(CheckpointError, match="is not a folder"):
        Assistant.load("./nowhere")
