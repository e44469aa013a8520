"""Chat templates, rendered."""

import copy
import json
import time

import numpy as np
import pytest
from PIL import Image
from reference.tokenizer_files import CHAT_TEMPLATE

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models import jinja
from paddlemix_qwenvl.models.jinja import render_chat, variables_of

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
FILM = "<|vision_start|><|video_pad|><|vision_end|>"


def user(*parts) -> dict:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def image(name: str = "a.png") -> dict:
    return {"type": "image", "image": name}


def test_text_and_pictures_stay_in_order():
    messages = [
        user("one ", image(), " two ", {"type": "video", "video": "b.mp4"}),
        {"role": "assistant", "content": "ok"},
    ]
    wanted = f"{SYSTEM}<|im_start|>user\none {PICTURE} two {FILM}<|im_end|>\n<|im_start|>assistant\nok<|im_end|>\n"
    before = copy.deepcopy(messages)
    assert render_chat(CHAT_TEMPLATE, messages) == wanted
    assert render_chat(CHAT_TEMPLATE, messages, add_generation_prompt=True) == wanted + "<|im_start|>assistant\n"
    assert messages == before


def test_a_system_message_of_ones_own():
    messages = [{"role": "system", "content": "Short."}, user("hi")]
    wanted = "<|im_start|>system\nShort.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    assert render_chat(CHAT_TEMPLATE, messages) == wanted


def test_variables_reach_the_template():
    text = render_chat(CHAT_TEMPLATE, [user(image(), image(), "?")], add_vision_id=True)
    assert f"Picture 1: {PICTURE}Picture 2: {PICTURE}?" in text


def test_conversations_are_rendered_one_by_one():
    conversations = [[user("a")], [user(image(), "b")]]
    assert render_chat(CHAT_TEMPLATE, conversations) == [render_chat(CHAT_TEMPLATE, one) for one in conversations]
    assert render_chat(CHAT_TEMPLATE, tuple(conversations)) == render_chat(CHAT_TEMPLATE, conversations)


@pytest.mark.parametrize("messages", [[], [[]], [{}], [{"role": "user"}], [3], [None], "hello", 5, None], ids=str)
def test_messages_that_no_template_takes(messages):
    with pytest.raises(PromptError, match=r"a conversation is a list of messages, each"):
        render_chat(CHAT_TEMPLATE, messages)


def test_without_a_template():
    with pytest.raises(PromptError, match=r"no chat template.*chat_template\.jinja.*tokenizer_config\.json"):
        render_chat(None, [user("hi")])


@pytest.mark.parametrize(
    "template", ["{{ messages.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}"]
)
def test_a_template_runs_in_a_sandbox(template):
    with pytest.raises(PromptError, match=r"access to attribute '__class__' .* is unsafe"):
        render_chat(template, [user("hi")])


def test_a_template_that_is_no_template():
    with pytest.raises(PromptError, match=r"chat template"):
        render_chat("{% for message in messages %}", [user("hi")])


def test_a_template_may_refuse():
    template = "{% if messages|length > 1 %}{{ raise_exception('one message only') }}{% endif %}ok"
    assert render_chat(template, [user("hi")]) == "ok"
    with pytest.raises(PromptError, match="one message only"):
        render_chat(template, [user("hi"), user("ho")])
