"""Tool calls as data on the real screen, and the prompt that offers the tools."""

import json

import pytest

from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import parse_actions, system_prompt
from paddlemix_qwenvl.grounding.agents import TOOLS

SCREEN, RESIZED = (2160, 4800), (1080, 2400)


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def read(text):
    return parse_actions(text, SCREEN, RESIZED)


def test_the_cookbooks_call():
    text = (
        '<tool_call>\n{"name": "mobile_use", "arguments": {"action": "click", "coordinate": [935, 406]}}\n</tool_call>'
    )
    (action,) = parse_actions(text, (1080, 2400), (1092, 2408))
    assert (action.tool, action.name, action.problem) == ("mobile_use", "click", "")
    assert action.coordinate == (924, 404)
    assert action.arguments == {"action": "click", "coordinate": [935, 406]} and action.raw in text


ARGUMENTS = {
    "keys": (["ctrl", "c"], ("ctrl", "c")),
    "text": ("héllo 你好", "héllo 你好"),
    "coordinate": ([10, 20], (20, 40)),
    "coordinate2": ([30.5, 40], (61, 80)),
    "pixels": (-120, -120),
    "time": (1.5, 1.5),
    "button": ("Back", "Back"),
    "status": ("success", "success"),
}


@pytest.mark.parametrize(("tool", "name"), [(tool, name) for tool, actions in TOOLS.items() for name in actions])
def test_every_action_of_both_tools(tool, name):
    needs = TOOLS[tool][name][1]
    arguments = {key: ARGUMENTS[key][0] for key in needs}
    (action,) = read(call(tool, action=name, **arguments))
    assert (action.tool, action.name, action.problem) == (tool, name, "")
    assert {key: getattr(action, key) for key in ARGUMENTS} == {
        key: ARGUMENTS[key][1] if key in needs else None for key in ARGUMENTS
    }
    for missing in needs:
        (action,) = read(call(tool, action=name, **{key: value for key, value in arguments.items() if key != missing}))
        assert action.problem == f"{name} needs {missing!r}, got None"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (call("computer_use", action="format_disk", text="c:"), "unknown action 'format_disk' of computer_use"),
        (call("computer_use", action="click", coordinate=[1, 2]), "unknown action 'click' of computer_use"),
        (call("shell", action="rm -rf"), "unknown tool 'shell'"),
        (call("mobile_use"), "unknown action '' of mobile_use"),
        (call("mobile_use", action=["click"]), "unknown action \"['click']\" of mobile_use"),
        (call("mobile_use", action="click", coordinate=[1]), "click needs 'coordinate', got [1]"),
        (call("mobile_use", action="click", coordinate=[1, True]), "click needs 'coordinate', got [1, True]"),
        (call("mobile_use", action="system_button", button="Format"), "system_button needs 'button', got 'Format'"),
        (call("computer_use", action="wait", time="long"), "wait needs 'time', got 'long'"),
        (call("computer_use", action="key", keys=[]), "key needs 'keys', got []"),
        (
            call("computer_use", action="left_click", coordinate=[1, 2, 3]),
            "left_click has no point in 'coordinate', got [1, 2, 3]",
        ),
        ('<tool_call>{"name": "computer_use", "arguments": "none"}', "unknown action '' of computer_use"),
    ],
)
def test_a_call_that_cannot_be_carried_out_says_why(text, problem):
    (action,) = read(text)
    assert action.problem == problem


def test_a_call_that_is_cut_off_is_never_a_good_one():
    """Cut anywhere before its own end: no action, or one with a problem; a click that lost its point is no click."""
    text = call("computer_use", action="left_click", coordinate=[123, 456], text="abc")
    whole = text.index("\n</tool_call>")
    for end in range(whole):
        assert all(action.problem for action in read(text[:end])), text[:end]
    for end in range(whole, len(text) + 1):
        assert [action.problem for action in read(text[:end])] == [""]


@pytest.mark.parametrize(
    "arguments",
    [
        '{"action": "left_click", "coordinate": [10, 20}',
        '{"action": "left_click", "coordinate": [10, 20}}',
        '{"action": "type", "text": "format c:}}',
        '{"action": "type", "text": "format c:}',
        '{"action": "wait", "time": 1 "keys": ["a", "b}',
    ],
)
def test_a_call_with_a_bracket_or_a_quote_missing_is_no_good_one(arguments):
    (action,) = read(f'<tool_call>{{"name": "computer_use", "arguments": {arguments}</tool_call>')
    assert action.problem == "the call is cut off or malformed"


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"name": "mobile_use", "arguments": {"action": "open", "text": "Maps"}}',
        '```json\n{"name": "mobile_use", "arguments": {"action": "open", "text": "Maps",},}\n```',
        "Thought: open it.\n{'name': 'mobile_use', 'arguments': {'action': 'open', 'text': 'Maps'}}",
        '<tool_call>{"name": "mobile_use", "arguments": "{\\"action\\": \\"open\\", \\"text\\": \\"Maps\\"}"}</tool_call>',
        '[{"name": "mobile_use", "arguments": {"action": "open", "text": "Maps"}}]',
    ],
)
def test_other_spellings(text):
    (action,) = read(text)
    assert (action.name, action.text, action.problem) == ("open", "Maps", "")


def test_only_what_stands_in_the_tags_counts_if_there_are_any():
    """A page may show text that looks like a call, and an answer may quote it."""
    quoted = '{"name": "mobile_use", "arguments": {"action": "open", "text": "Bank"}}'
    actions = read(
        f"The page says {quoted}. "
        + call("mobile_use", action="wait", time=1)
        + call("mobile_use", action="type", text=quoted)
    )
    assert [(action.name, action.text) for action in actions] == [("wait", None), ("type", quoted)]


@pytest.mark.parametrize(
    ("point", "pixel"),
    [([0, 0], (0, 0)), ([1080, 2400], (2159, 4799)), ([-9, 1e9], (0, 4799)), ([539.9, 1], (1079, 2))],
)
def test_coordinates_stay_on_the_screen(point, pixel):
    assert read(call("mobile_use", action="click", coordinate=point))[0].coordinate == pixel


@pytest.mark.parametrize("tool", TOOLS)
def test_the_prompt_states_the_tool_and_the_size(tool):
    prompt = system_prompt(tool, (1092, 2408))
    signature = json.loads(prompt.split("<tools>\n")[1].split("\n</tools>")[0])["function"]
    assert list(signature) == ["name_for_human", "name", "description", "parameters", "args_format"]
    assert signature["name"] == tool and "1092x2408" in signature["description"]
    properties = signature["parameters"]["properties"]
    assert properties["action"]["enum"] == list(TOOLS[tool])
    assert set(properties) == {"action"} | {key for _, needs in TOOLS[tool].values() for key in needs}
    assert prompt.endswith('<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>')


def test_bad_arguments():
    with pytest.raises(GroundingError, match="no tool 'browser'; choose one of computer_use, mobile_use"):
        system_prompt("browser", (1, 1))
    with pytest.raises(GroundingError, match="screen_size is"):
        parse_actions("", (0, 0), (1, 1))
    with pytest.raises(GroundingError, match="resized_size is"):
        system_prompt("mobile_use", 28)


def test_an_actions_points_can_be_drawn():
    swipe, wait = read(
        call("mobile_use", action="swipe", coordinate=[10, 20], coordinate2=[30, 40])
        + call("mobile_use", action="wait", time=1)
    )
    points = [(x + 0.5, y + 0.5) for x, y in (swipe.coordinate, swipe.coordinate2)]
    assert [(item.kind, item.label, item.coords) for item in swipe.as_items()] == [
        ("point", "swipe", at) for at in points
    ]
    assert wait.as_items() == []


@pytest.mark.parametrize(
    "arguments",
    [
        '{"action": "left_click", "coordinate": 10, 20]}',
        '{"action": "left_click", "coordinate": [10, 20}}',
        '["action": "left_click", "coordinate": [10, 20]]',
        '{"action": "left_click", "coordinate": [10, 20], "action": "left_click", "coordinate": [10, 20]}',
    ],
)
def test_a_call_with_a_wrong_bracket_is_read_and_not_carried_out(arguments):
    text = f'<tool_call>{{"name": "computer_use", "arguments": {arguments}}}</tool_call>'
    (action,) = parse_actions(text, (100, 100), (100, 100))
    assert action.tool == "computer_use" and action.problem
