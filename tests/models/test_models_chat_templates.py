"""Which templates a folder has, and which of them is rendered."""

import json

import pytest

from paddlemix_qwenvl.errors import ConfigurationError, PromptError
from paddlemix_qwenvl.models.chat_templates import (
    as_saved,
    choose_template,
    processor_templates,
    save_templates,
    tokenizer_templates,
)
from paddlemix_qwenvl.models.tokenizer_settings import read_settings

SEVERAL = {"default": "{{ 1 }}", "tool_use": "{{ 2 }}"}


def write(folder, **files) -> None:
    for stem, content in files.items():
        suffix = ".jinja" if stem == "jinja" else ".json"
        name = "chat_template" if stem in ("jinja", "json") else stem
        text = content if stem == "jinja" else json.dumps({"chat_template": content}, ensure_ascii=False)
        (folder / (name + suffix)).write_text(text, encoding="utf-8")


def found(folder) -> tuple:
    settings = read_settings(folder)
    return tokenizer_templates(folder, settings), processor_templates(folder, settings)


def test_which_file_goes_first(tmp_path):
    """As in transformers 4.57 and 5: chat_template.json for the processor alone, Jinja files before the tokenizer's config."""
    assert found(tmp_path) == (None, None)
    write(tmp_path, tokenizer_config="config: 图")
    assert found(tmp_path) == ("config: 图", "config: 图")
    write(tmp_path, json="json: 图")
    assert found(tmp_path) == ("config: 图", "json: 图")
    write(tmp_path, jinja="jinja: 图")
    assert found(tmp_path) == ("jinja: 图", "json: 图")
    write(tmp_path, processor_config="processor: 图")
    assert found(tmp_path) == ("jinja: 图", "processor: 图")
    write(tmp_path, processor_config=None)
    (tmp_path / "chat_template.json").write_text("{}")
    assert found(tmp_path) == ("jinja: 图", "jinja: 图")


@pytest.mark.parametrize("form", [SEVERAL, as_saved(SEVERAL)], ids=["dict", "list"])
def test_several_in_a_config(tmp_path, form):
    write(tmp_path, tokenizer_config=form, json=form)
    assert found(tmp_path) == (SEVERAL, SEVERAL)
    write(tmp_path, tokenizer_config=[{"name": "default", "template": "{{ 1 }}"}], json=None)
    assert found(tmp_path) == ("{{ 1 }}", "{{ 1 }}")


def test_several_jinja_files(tmp_path):
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("{{ 2 }}")
    assert found(tmp_path) == ({"tool_use": "{{ 2 }}"},) * 2
    write(tmp_path, jinja="{{ 1 }}")
    assert found(tmp_path) == (SEVERAL, SEVERAL)


def test_saved_and_read_again(tmp_path):
    for templates in ("{{ '图' }}", SEVERAL, {"tool_use": "{{ 2 }}"}, "{{ 3 }}"):
        save_templates(templates, tmp_path)
        assert found(tmp_path)[1] == templates
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["chat_template.json"]


@pytest.mark.parametrize(
    ("templates", "wanted", "tools", "template"),
    [
        ("{{ 0 }}", None, None, "{{ 0 }}"),
        ("{{ 0 }}", None, [], "{{ 0 }}"),
        ("{{ 0 }}", "{{ 9 }}", None, "{{ 9 }}"),
        (None, None, None, None),
        (SEVERAL, None, None, "{{ 1 }}"),
        (SEVERAL, None, [], "{{ 2 }}"),
        (SEVERAL, "default", [], "{{ 1 }}"),
        (SEVERAL, "tool_use", None, "{{ 2 }}"),
        (SEVERAL, "{{ 9 }}", [], "{{ 9 }}"),
    ],
)
def test_which_is_rendered(templates, wanted, tools, template):
    assert choose_template(templates, wanted, tools) == template


@pytest.mark.parametrize(
    ("templates", "wanted"),
    [(SEVERAL, "rag"), ("{{ 0 }}", "tool_use"), ({"rag": "{{ 1 }}"}, None), (SEVERAL, 5), (None, [])],
)
def test_there_is_none_of_that_name(templates, wanted):
    with pytest.raises(PromptError, match=r"chat_template is .*: give a template's text"):
        choose_template(templates, wanted)


@pytest.mark.parametrize(
    "content", [b"\xff", b"[]", b'{"chat_template": 5}', b'{"chat_template": [{"name": "a"}]}', b"{"]
)
def test_files_that_cannot_be_read(tmp_path, content):
    (tmp_path / "chat_template.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"chat_template\.json"):
        found(tmp_path)


def test_a_jinja_file_that_cannot_be_read(tmp_path):
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"chat_template\.jinja cannot be read"):
        found(tmp_path)
