"""Agents on a screen: the prompt that offers the model its tool, and its tool calls as data.

The two tools, their arguments and the `<tools>` and `<tool_call>` tags are those of Qwen2.5-VL's cookbooks `computer_use.ipynb`
and `mobile_agent.ipynb` (`utils/agent_function_call.py`). Nothing here acts: what to do with an action is up to the caller.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import GroundingError
from . import loose_json
from .geometry import Size, check_size
from .items import Item
from .text import check_text

Point = tuple[int, int]

_TOOL_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)

# action: (what it does, the arguments it cannot do without)
TOOLS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "computer_use": {
        "key": ("Press the given keys one after the other, then release them in reverse order.", ("keys",)),
        "type": ("Type a text on the keyboard.", ("text",)),
        "mouse_move": ("Move the cursor to a point of the screen.", ("coordinate",)),
        "left_click": ("Click the left mouse button, at a point if one is given.", ()),
        "left_click_drag": ("Drag with the left mouse button from where the cursor is to a point.", ("coordinate",)),
        "right_click": ("Click the right mouse button, at a point if one is given.", ()),
        "middle_click": ("Click the middle mouse button, at a point if one is given.", ()),
        "double_click": ("Click the left mouse button twice, at a point if one is given.", ()),
        "scroll": ("Turn the mouse wheel.", ("pixels",)),
        "wait": ("Wait for the screen to change.", ("time",)),
        "terminate": ("End the task and say how it went.", ("status",)),
    },
    "mobile_use": {
        "key": ("Send a key event by its name in `adb shell input keyevent`, such as volume_up or power.", ("text",)),
        "click": ("Tap a point of the screen.", ("coordinate",)),
        "long_press": ("Press a point of the screen for some seconds.", ("coordinate", "time")),
        "swipe": ("Swipe from one point of the screen to another.", ("coordinate", "coordinate2")),
        "type": ("Enter a text into the active input field.", ("text",)),
        "system_button": ("Press a button of the system.", ("button",)),
        "open": ("Open an app by its name.", ("text",)),
        "wait": ("Wait for the screen to change.", ("time",)),
        "terminate": ("End the task and say how it went.", ("status",)),
    },
}
_BUTTONS, _STATUS = ("Back", "Home", "Menu", "Enter"), ("success", "failure")
ARGUMENTS = {
    "keys": {"type": "array", "description": "Names of keys."},
    "text": {"type": "string", "description": "A text, or the name of a key or an app."},
    "coordinate": {"type": "array", "description": "[x, y] in pixels from the left and the upper edge of the screen."},
    "coordinate2": {"type": "array", "description": "[x, y] in the same pixels: where a swipe ends."},
    "pixels": {"type": "number", "description": "How far to scroll: up if positive, down if negative."},
    "time": {"type": "number", "description": "Seconds."},
    "button": {"type": "string", "description": "The button of the system.", "enum": list(_BUTTONS)},
    "status": {"type": "string", "description": "How the task went.", "enum": list(_STATUS)},
}
_USES = {
    "computer_use": "Work on a computer with a mouse and a keyboard, and see it by screenshots. Programs start from what is on "
    "the screen; there is no terminal.",
    "mobile_use": "Work on a mobile device with a touchscreen, and see it by screenshots.",
}


@dataclass(frozen=True)
class Action:
    """One tool call.

    tool: "computer_use", "mobile_use" or whatever else was called.
    name: the action, a key of `TOOLS[tool]`, or whatever else was asked for.
    problem: "" for an action that can be carried out; else why not: an unknown tool or action, an argument that is
        missing or makes no sense, or a call that is not whole. Such a call is kept as data and must not be acted on.
    coordinate, coordinate2: (x, y) in whole pixels of the real screen, inside it.
    keys, text, pixels, time (seconds), button, status: the tool's other arguments, None where the call has none.
    arguments: the call's arguments as the model wrote them, coordinates included.
    raw: the call in the answer's text.
    """

    tool: str
    name: str
    problem: str = ""
    coordinate: Point | None = None
    coordinate2: Point | None = None
    keys: tuple[str, ...] | None = None
    text: str | None = None
    pixels: float | None = None
    time: float | None = None
    button: str | None = None
    status: str | None = None
    arguments: dict = field(default_factory=dict)
    raw: str = ""

    def as_items(self) -> list[Item]:
        """The action's points as `draw` takes them, in order."""
        points = [point for point in (self.coordinate, self.coordinate2) if point is not None]
        return [Item("point", self.name, (x + 0.5, y + 0.5), raw=self.raw) for x, y in points]  # the pixels' middles


def parse_actions(text: str, screen_size: Size, resized_size: Size) -> list[Action]:
    """The tool calls in an answer, in order.

    text: an answer with `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`. Only where it has no such tag at all do
        calls count that stand anywhere. Their JSON may be malformed (see `loose_json`).
    screen_size: (width, height) of the screen that actions are for.
    resized_size: (width, height) of the screenshot as the model saw it, which its coordinates count on. The same size
        belongs into `system_prompt`.

    Raises GroundingError for sizes that are none or a `text` that is no str, and nothing else.
    """
    screen, resized = check_size("screen_size", screen_size), check_size("resized_size", resized_size)
    text = check_text(text)
    return [
        _to_action(call, piece[slice(*call.span)], screen, resized)
        for piece in _TOOL_CALL.findall(text) or [text]
        for value in loose_json.read(piece)
        for call in _calls(value)
    ]


def system_prompt(tool: str, resized_size: Size) -> str:
    """The system message that offers `tool` to the model, in the frame that Qwen2.5's models were trained on.

    tool: "computer_use" or "mobile_use".
    resized_size: (width, height) of the screenshots as the model sees them, which is what it gives coordinates in.

    Raises GroundingError for an unknown tool or a size that is none.
    """
    if tool not in TOOLS:
        raise GroundingError(f"There is no tool {tool!r}; choose one of {', '.join(TOOLS)}.")
    width, height = check_size("resized_size", resized_size)
    signature = json.dumps({"type": "function", "function": _signature(tool, width, height)}, ensure_ascii=False)
    return (
        "You are a helpful assistant.\n\n# Tools\n\n"
        "You may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{signature}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n"
        '<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
    )


def _signature(tool: str, width: int, height: int) -> dict:
    actions = TOOLS[tool]
    names = [name for name in ARGUMENTS if name == "coordinate" or any(name in needs for _, needs in actions.values())]
    listing = "\n".join(f"* `{action}`: {what}" for action, (what, _) in actions.items())
    properties = {"action": {"type": "string", "description": f"What to do:\n{listing}", "enum": list(actions)}}
    for name in names:
        users = ", ".join(f"`action={action}`" for action, (_, needs) in actions.items() if name in needs)
        properties[name] = {
            **ARGUMENTS[name],
            "description": f"{ARGUMENTS[name]['description']} Required by {users}.",
        }
    description = (
        f"{_USES[tool]}\n* The screen's resolution is {width}x{height}.\n* Aim at the middle of a button, link or icon, not at "
        "its edge.\n* A program may take a while to react: wait, then look at another screenshot."
    )
    parameters = {"properties": properties, "required": ["action"], "type": "object"}
    return {
        "name_for_human": tool,
        "name": tool,
        "description": description,
        "parameters": parameters,
        "args_format": "Format the arguments as a JSON object.",
    }


def _calls(value) -> Iterator[loose_json.Object]:
    if isinstance(value, loose_json.Object) and isinstance(value.get("name"), str) and "arguments" in value:
        yield value
    else:
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from _calls(child)


def _to_action(call: loose_json.Object, raw: str, screen: Size, resized: Size) -> Action:
    tool, arguments = call["name"], call["arguments"]
    if isinstance(arguments, str):
        arguments = next(iter(loose_json.read(arguments)), None)
    whole = call.whole and getattr(arguments, "whole", True)
    arguments = dict(arguments) if isinstance(arguments, dict) else {}
    name = str(arguments.get("action", ""))
    values = {key: read(arguments.get(key)) for key, read in _READERS.items()}
    for key in ("coordinate", "coordinate2"):
        values[key] = _to_screen(_point(arguments.get(key)), screen, resized)
    problem = _problem(tool, name, arguments, values) or ("" if whole else "the call is cut off or malformed")
    return Action(tool, name, problem, **values, arguments=arguments, raw=raw)


def _problem(tool: str, name: str, arguments: dict, values: dict) -> str:
    if tool not in TOOLS:
        return f"unknown tool {tool!r}"
    if name not in TOOLS[tool]:
        return f"unknown action {name!r} of {tool}"
    for key in TOOLS[tool][name][1]:
        if values[key] is None:
            return f"{name} needs {key!r}, got {arguments.get(key)!r}"
    if "coordinate" in arguments and values["coordinate"] is None:
        return f"{name} has no point in 'coordinate', got {arguments['coordinate']!r}"
    return ""


def _to_screen(point: tuple[float, float] | None, screen: Size, resized: Size) -> Point | None:
    """The pixel of the screen that holds `point`, which counts on the resized screenshot."""
    if point is None:
        return None
    x, y = (
        min(max(int(value * full / cells), 0), int(full) - 1)
        for value, full, cells in zip(point, screen, resized, strict=True)
    )
    return x, y


def _number(value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def _point(value) -> tuple[float, float] | None:
    numbers = [_number(element) for element in value] if isinstance(value, list) else []
    return tuple(numbers) if len(numbers) == 2 and None not in numbers else None


def _string(value) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None


def _keys(value) -> tuple[str, ...] | None:
    values = [value] if isinstance(value, str) else value
    keys = [_string(key) for key in values] if isinstance(values, list) else []
    return tuple(keys) if keys and None not in keys else None


def _one_of(*choices: str):
    return lambda value: value if value in choices else None


_READERS = {
    "keys": _keys,
    "text": _string,
    "pixels": _number,
    "time": _number,
    "button": _one_of(*_BUTTONS),
    "status": _one_of(*_STATUS),
}
