"""Calls in an answer's text, however it comes in pieces."""

import json

import pytest
from guided import answer, demo

from paddlemix_qwenvl.engine.grammar import Grammar
from paddlemix_qwenvl.server import tool_calls
from paddlemix_qwenvl.server.protocol_chat import Conversation, Tool
from paddlemix_qwenvl.server.tool_calls import ToolCallParser

CALL = '<tool_call>\n{"name": "look", "arguments": {"at": "a \\"}] box", "n": [{}, 1]}}\n</tool_call>'
ARGUMENTS = '{"at": "a \\"}] box", "n": [{}, 1]}'


def read(pieces, most=None):
    """Content, and names with arguments, of an answer in these pieces; and how many pieces of arguments there were."""
    parser, told = ToolCallParser(most), []
    for piece in pieces:
        told += parser.add(piece)
    told += parser.end()
    calls = [each for each in told if not isinstance(each, str)]
    content = "".join(each for each in told if isinstance(each, str))
    merged = tool_calls.merged(calls)
    assert all(call["id"].startswith("call_") and call["type"] == "function" for call in merged)
    return content, [(call["function"]["name"], call["function"]["arguments"]) for call in merged], len(calls)


ANSWERS = {
    "no call": ("a <tool> b <tool_cal", "a <tool> b <tool_cal", []),
    "one": (CALL, "", [("look", ARGUMENTS)]),
    "after words": (f"I look.\n{CALL}", "I look.\n", [("look", ARGUMENTS)]),
    "two": (f"{CALL}\n{CALL}\n", "", [("look", ARGUMENTS)] * 2),
    "words after": (f"{CALL}\nThere.", "\nThere.", [("look", ARGUMENTS)]),
    "another order": ('<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>', "", [("f", '{"a": 1}')]),
    "no arguments": ('<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    "no JSON": ("<tool_call>f(1)</tool_call>!", "<tool_call>f(1)</tool_call>!", []),
    "no object": ('<tool_call>["name"]</tool_call>', '<tool_call>["name"]</tool_call>', []),
    "cut off in arguments": ('<tool_call>\n{"name": "f", "arguments": {"a": "b', "", [("f", '{"a": "b')]),
    "cut off in the name": ('<tool_call>\n{"name": "f', '<tool_call>\n{"name": "f', []),
    "no end tag": ('<tool_call>{"name": "f", "arguments": {}}', "", [("f", "{}")]),
}


@pytest.mark.parametrize(("text", "content", "calls"), ANSWERS.values(), ids=ANSWERS)
def test_answers_are_read_the_same_in_any_pieces(text, content, calls):
    assert read([text])[:2] == (content, calls)
    assert read(text)[:2] == (content, calls)
    for cut in range(1, len(text)):
        assert read([text[:cut], text[cut:]])[:2] == (content, calls)


def test_arguments_come_as_they_are_written():
    assert read(CALL)[2] == 1 + len(ARGUMENTS)


def test_calls_past_the_most_are_left_out():
    assert read([CALL, "\n", CALL], most=1)[:2] == ("", [("look", ARGUMENTS)])


def tool(name, **parameters) -> Tool:
    function = {"name": name} | ({"parameters": parameters} if parameters else {})
    return Tool.model_validate({"type": "function", "function": function})


TOOLS = [
    tool("add", properties={"a": {"$ref": "#/$defs/n"}}, required=["a"], **{"$defs": {"n": {"type": "integer"}}}),
    tool("stop.now"),
]


@pytest.mark.parametrize("parallel", [True, False])
def test_a_grammar_makes_calls_that_are_read(parallel):
    tokenizer, vocabulary = demo()
    grammar = Grammar.lark("start: calls\n" + tool_calls.calls_rules(TOOLS, parallel), vocabulary)
    counts = set()
    for seed in range(8):
        content, calls, _ = read([answer(grammar, tokenizer, seed, patience=60)[1]])
        assert content == ""
        for name, arguments in calls:
            found = json.loads(arguments)
            assert (name == "add" and isinstance(found["a"], int)) or (name, found) == ("stop.now", {})
        counts.add(len(calls))
    assert counts == {1} if not parallel else 1 in counts


def conversation(**fields) -> Conversation:
    tools = [each.model_dump(exclude_none=True) for each in TOOLS]
    return Conversation.model_validate({"messages": [{"role": "user", "content": "x"}], "tools": tools} | fields)


def test_which_tools_are_offered_and_must_be_called():
    assert tool_calls.offered(conversation(tool_choice="none")) == []
    assert tool_calls.offered(conversation()) == TOOLS
    assert not tool_calls.must_call(conversation(tool_choice="auto"))
    assert tool_calls.chosen(conversation(tool_choice="required")) == TOOLS
    named = conversation(tool_choice={"type": "function", "function": {"name": "add"}})
    assert tool_calls.must_call(named) and tool_calls.chosen(named) == TOOLS[:1]
