"""A loaded model that is asked, on a tiny random model."""

from pathlib import Path

import pytest

from paddlemix_qwenvl.engine.session import Assistant
from paddlemix_qwenvl.errors import CheckpointError
from paddlemix_qwenvl.media import messages

PICTURE = Path(__file__).parents[2] / "examples" / "images" / "shapes.png"
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


def test_a_folder_that_is_not_there():
    with pytest.raises(CheckpointError, match="is not a folder"):
        Assistant.load("./nowhere")
