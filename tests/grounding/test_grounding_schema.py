"""Schemas of grounded answers: whatever a model writes under them is read whole, and lies in its picture."""

import json

import guided
import pytest

from paddlemix_qwenvl.engine.grammar import Grammar
from paddlemix_qwenvl.errors import GroundingError
from paddlemix_qwenvl.grounding import parse, parse_actions, schema
from paddlemix_qwenvl.grounding.agents import TOOLS

RESIZED, ORIGINAL = [(112, 168), (56, 1204)], [(300, 451), (17, 365)]
GRID = [(1000, 1000)]


@pytest.fixture(scope="module")
def demo():
    return guided.demo()


def answers(wanted: dict, demo, count: int = 25):
    """Texts of a random model."""
    tokenizer, vocabulary = demo
    grammar = Grammar.json_schema(wanted, vocabulary)
    return [guided.answer(grammar, tokenizer, seed)[1] for seed in range(count)]


@pytest.mark.parametrize("labels", [None, ["cat", "图 <1>"]], ids=["any", "labels"])
@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize(("kind", "key", "shape"), [("boxes", "bbox_2d", "box"), ("points", "point_2d", "point")])
def test_boxes_and_points_are_read_whole_in_their_pictures(kind, key, shape, pictures, labels, demo):
    resized, original = RESIZED[:pictures], ORIGINAL[:pictures]
    found = 0
    for text in answers(schema(kind, resized, labels), demo):
        written, items = json.loads(text), parse(text, original, resized)
        assert [item.label for item in items] == [one["label"] for one in written]
        assert [item.image for item in items] == [one.get("image", 1) - 1 for one in written]
        assert labels is None or {item.label for item in items} <= {*labels}
        for item, one in zip(items, written, strict=True):
            size, limit = original[item.image], resized[item.image]
            places = [round(v * size[i % 2] / limit[i % 2], 2) for i, v in enumerate(one[key])]
            xs, ys = sorted(places[::2]), sorted(places[1::2])
            assert item.kind == shape and item.coords == tuple(v for point in zip(xs, ys, strict=True) for v in point)
            assert all(0 <= v <= side for v, side in zip(item.coords, size * 2, strict=False))
        found += len(items)
    assert found > 10


def test_a_grid_goes_over_the_whole_picture(demo):
    text = '[{"bbox_2d":[0,0,1000,1000],"label":""},{"bbox_2d":[1000,500,0,0],"label":"x"}]'
    matcher = Grammar.json_schema(schema("boxes", GRID), demo[1]).matcher()
    for token in demo[0].encode(text):
        matcher.accept(token)
    assert matcher.ended
    assert [item.coords for item in parse(text, ORIGINAL[:1], GRID)] == [(0, 0, 300, 451), (0, 0, 300, 225.5)]


@pytest.mark.parametrize(
    "beyond", ["[0,0,112,169]", "[113,0,1,1]", "[-1,0,1,1]", "[1.5,0,1,1]", "[0,0,1]", "[0,0,1,1,1]"]
)
def test_what_is_beyond_the_picture_cannot_be_written(beyond, demo):
    tokenizer, vocabulary = demo
    text = f'[{{"bbox_2d":{beyond},"label":"x"}}]'
    tokens = tokenizer.encode(text)
    assert Grammar.json_schema(schema("boxes", RESIZED[:1]), vocabulary).matcher().accepted(tokens) < len(tokens)


@pytest.mark.parametrize("tool", [*TOOLS, None])
def test_actions_can_all_be_carried_out(tool, demo):
    screen, resized = (1920, 1081), RESIZED[0]
    names = set()
    for text in answers(schema("actions", [(28, 28), resized], tool=tool), demo, 100):
        actions = parse_actions(text, screen, resized)
        assert [action.arguments for action in actions] == [call["arguments"] for call in json.loads(text)] != []
        for action in actions:
            assert action.problem == "" and action.tool in ([tool] if tool else TOOLS)
            for point in (action.coordinate, action.coordinate2):
                assert point is None or all(0 <= v < side for v, side in zip(point, screen, strict=True))
            names.add((action.tool, action.name))
    assert len(names) > 5


@pytest.mark.parametrize("tool", TOOLS)
def test_every_action_can_be_written_as_models_do(tool, demo):
    tokenizer, vocabulary = demo
    grammar = Grammar.json_schema(schema("actions", RESIZED), vocabulary)
    values = {"keys": ["ctrl", "c"], "text": "a < b", "coordinate": [56, 1204], "coordinate2": [0, 7], "pixels": -300}
    values |= {"time": 0.5, "button": "Home", "status": "success"}
    for action, (_, needs) in TOOLS[tool].items():
        arguments = {"action": action} | {name: values[name] for name in needs or ("coordinate",)}
        text = json.dumps([{"name": tool, "arguments": arguments}], indent=1)
        matcher = grammar.matcher()
        for token in tokenizer.encode(text):
            matcher.accept(token)
        assert matcher.ended and [one.problem for one in parse_actions(text, (56, 1204), RESIZED[1])] == [""]


def test_no_tag_begins_in_a_text(demo):
    tokenizer, vocabulary = demo
    matcher = Grammar.json_schema(schema("actions", RESIZED), vocabulary).matcher()
    before = '[{"name":"computer_use","arguments":{"action":"type","text":"'
    for text, fits in {
        "a < b <<table> <t": True,
        "<tt>": True,
        "x <tool_call>": False,
        "<<to": False,
        "<t<to": False,
    }.items():
        tokens = tokenizer.encode(before + text + '"}}]')
        assert (matcher.accepted(tokens) == len(tokens)) is fits, text


def test_at_most_so_many(demo):
    texts = answers(schema("points", GRID, ["x"], max_items=2), demo)
    assert {len(json.loads(text)) for text in texts} == {0, 1, 2}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("circles", GRID), "no kind 'circles'; choose one of boxes, points, actions"),
        (("boxes", []), r"sizes is \[\]; expected"),
        (("boxes", [(0, 5)]), r"sizes\[0\] is \(0, 5\)"),
        (("boxes", (112, 168)), r"sizes\[0\] is 112; expected \(width, height\)"),
        (("boxes", None), "sizes is None; expected"),
        (("boxes", GRID, []), r"labels is \[\]; expected"),
        (("boxes", GRID, "cat"), "labels is 'cat'; expected"),
        (("boxes", GRID, [1]), r"labels is \[1\]; expected"),
        (("boxes", GRID, None, 0), "max_items is 0; expected a number of 1 or more"),
        (("boxes", GRID, None, True), "max_items is True"),
        (("boxes", GRID, None, None, "computer_use"), "but boxes have none"),
        (("actions", GRID, ["cat"]), "but actions have none"),
        (("actions", GRID, None, None, "toaster"), "no tool 'toaster'; choose one of computer_use, mobile_use"),
    ],
)
def test_what_makes_no_schema(arguments, told):
    with pytest.raises(GroundingError, match=told):
        schema(*arguments)
