"""Chat templates, rendered."""

import copy
import json
from datetime import datetime

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


# ---- as transformers renders them; the texts are those of transformers 5.24.0

TURNS = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "<a> 中 "}]
CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if not loop.last %}|{% endif %}</s>{% endfor %}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": "<a> 中 "}'),
        ("{{ {'b': 1, 'a': [1]} | tojson(indent=1, sort_keys=true) }}", '{\n "a": [\n  1\n ],\n "b": 1\n}'),
        ("{{ {'a': 1} | tojson(separators=(',', ':')) }}", '{"a":1}'),
        ("{{ 'é' | tojson(ensure_ascii=true) }}", '"\\u00e9"'),
        ("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% break %}{% endfor %}", "u"),
        ("{%- for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}", "assistant"),
        ("  {% if true %}\n  a\n  {% endif %}\nb\n", "  a\nb"),
        ("{{ eos_token }}{{ bos_token }}", "<e>"),
        ("{% set n = namespace(i=0) %}{% for m in messages %}{% set n.i = n.i + 1 %}{% endfor %}{{ n.i }}", "2"),
        ("{{ dict(a=1) }}{{ range(3) | list }}{{ 'ab' * 2 }}{{ 2 ** 10 }}", "{'a': 1}[0, 1, 2]abab1024"),
        ("{{ 'a' ~ 1 ~ none ~ undefined ~ [2] }}{{ 1 + 2 }}{{ 'a' + 'b' }}{{ [1] + [2] }}", "a1None[2]3ab[1, 2]"),
        ("{{ 5 * 100000000 }}{{ 2 * 'ab' }}{{ [0] * 2 }}{{ 2.5 * 2 }}{{ true * 3 }}", "500000000abab[0, 0]5.03"),
        ("{{ tools is none and documents is none }}{{ add_generation_prompt }}", "TrueFalse"),
    ],
)
def test_templates_of_every_kind(template, text):
    assert render_chat(template, TURNS, eos_token="<e>") == text


def test_the_time_of_day():
    assert render_chat("{{ strftime_now('%Y-%m-%d %%') }}", TURNS) == datetime.now().strftime("%Y-%m-%d %%")


@pytest.mark.parametrize(
    ("template", "field", "text"),
    [
        (CHATML, True, "<user>u|</s><assistant><a> 中 "),
        (CHATML.replace("{{ m.content }}", "{{ m.content | trim }}"), True, "<user>u|</s><assistant><a> 中"),
        (
            "{{ messages | tojson }}",
            True,
            '[{"role": "user", "content": "u"}, {"role": "assistant", "content": "<a> 中 ',
        ),
        ("{{ messages[1].role }}", "role", "assistant"),
    ],
)
def test_the_last_message_goes_on(template, field, text):
    assert render_chat(template, TURNS, continue_final_message=field) == text
    assert TURNS[1]["content"] == "<a> 中 "


def test_the_last_text_part_goes_on():
    parts = [{"type": "text", "text": "see "}, {"type": "text", "text": "this"}, image()]
    text = render_chat(CHAT_TEMPLATE, [{"role": "assistant", "content": parts}], continue_final_message=True)
    assert text == f"{SYSTEM}<|im_start|>assistant\nsee this"


@pytest.mark.parametrize(
    ("messages", "options", "message"),
    [
        (TURNS, {"add_generation_prompt": True}, "exclude each other"),
        ([user(image())], {}, "no text in 'content' to go on with"),
        (TURNS, {"continue_final_message": "thought"}, "no text in 'thought'"),
    ],
)
def test_what_cannot_go_on(messages, options, message):
    with pytest.raises(PromptError, match=message):
        render_chat(CHAT_TEMPLATE, messages, **{"continue_final_message": True, **options})
    with pytest.raises(PromptError, match="leaves out the last message's 'content'"):
        render_chat("{{ messages[0].content }}", TURNS, continue_final_message=True)


def test_tools_and_documents():
    def add(a: int, b: int = 0):
        """Adds.

        Args:
            a: One.
            b: Another.
        """

    schema = {"type": "function", "function": {"name": "look", "parameters": {}}}
    text = render_chat("{{ tools | tojson }}", TURNS, tools=[schema, add])
    first, second = json.loads(text)
    assert first == schema and second["function"]["parameters"]["required"] == ["a"]
    assert render_chat("{{ documents[0].text }}", TURNS, documents=[{"title": "t", "text": "x"}]) == "x"


@pytest.mark.parametrize(
    "options", [{"tools": {}}, {"tools": ["f"]}, {"tools": [print]}, {"documents": "d"}, {"documents": ["d"]}], ids=str
)
def test_what_is_no_tool_and_no_document(options):
    with pytest.raises(PromptError):
        render_chat("x", TURNS, **options)


# ---- messages


def test_what_is_none_counts_as_left_out():
    """Tables of messages fill every column of every part."""
    part = {"type": "text", "text": "hi", "image": None, "video": None}
    messages = [{"role": "user", "content": [part], "name": None, "tool_calls": None}]
    assert render_chat(CHAT_TEMPLATE, messages) == render_chat(CHAT_TEMPLATE, [user("hi")])
    assert render_chat("{{ messages[0] | tojson }}", messages).count("null") == 0
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"x": None}}]}
    assert render_chat("{{ messages[0] | tojson }}", [call]) == json.dumps(
        {**call, "content": ...}, default=str
    ).replace('"content": "Ellipsis", ', "")


@pytest.mark.parametrize(
    "part", [{"type": "audio", "audio": "a.wav"}, {"type": "text", "content": "hi"}, "hi"], ids=str
)
def test_parts_that_nobody_knows(part):
    with pytest.raises(PromptError):
        render_chat(CHAT_TEMPLATE, [{"role": "user", "content": [part]}])


def test_templates_get_at_no_object():
    """A PIL image has methods that write files, which a sandbox lets pass."""
    picture = Image.new("RGB", (4, 4))
    messages = [{"role": "user", "content": [{"type": "image", "image": picture}]}]
    assert render_chat("{{ messages[0].content[0].image }}", messages) == "<Image>"
    assert (
        render_chat("{{ a }}{{ b + 1 }}{{ c }}", TURNS, a=np.float32(0.5), b=np.int64(1), c=(np.bool_(True),))
        == "0.52(True,)"
    )
    with pytest.raises(PromptError):
        render_chat("{{ messages[0].content[0].image.save('/tmp/x.png') }}", messages)


# ---- templates that do harm


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% for a in range(99999) %}{% call f() %}{% for b in range(9999) %}{% endfor %}"
        "{% endcall %}{% endfor %}",
    ],
)
def test_a_template_without_end(template, monkeypatch):
    monkeypatch.setattr(jinja, "PATIENCE", 0.2)
    with pytest.raises(PromptError, match=r"it took over 0\.2 s"):
        render_chat(template, TURNS)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 10 ** (10 ** 9) }}",
        "{{ 'a' * 10 ** 9 }}",
        "{{ 10 ** 9 * [0] }}",
        "{{ 'a' ** 2 }}",
        "{% set n = namespace(x=7) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{{ range(10 ** 9) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
        "{{ lipsum(n=10 ** 9) }}",
        "{{ 1 / 0 }}",
        "{{ messages[9].content }}",
        "{{ messages.nothing() }}",
        "{{ messages.append(1) }}",
        "{% include 'x' %}",
        "{{" * 10_000,
        "{{ a }}" * 10_000,
        "{{ " + "+".join("a" * 10_000) + " }}",
        "(" * 10_000 + "{{ " + "(" * 10_000 + " }}",
        "".join("{% for a in messages %}" for _ in range(30)) + "".join("{% endfor %}" for _ in range(30)),
    ],
)
def test_a_template_that_fails(template):
    with pytest.raises(PromptError) as caught:
        render_chat(template, TURNS)
    assert str(caught.value)


def test_variables_of_a_template():
    template = "{% set a = 1 %}{{ a }}{{ messages }}{% if add_vision_id %}{{ x }}{% endif %}{% for m in messages %}{% endfor %}"
    assert variables_of(template) == {"messages", "add_vision_id", "x", "documents", "continue_final_message"}
    deep = "{{ " + "+".join("a" * 10_000) + " }}"
    assert variables_of(None) == variables_of("{{") == variables_of(deep) == {"documents", "continue_final_message"}
