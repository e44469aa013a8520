"""JSON schemas of answers that `parse` and `parse_actions` take whole, for whatever guides a model by schemas."""

from collections.abc import Sequence

from ..errors import GroundingError
from .agents import ARGUMENTS, TOOLS
from .geometry import Size, check_size

_SHAPES = {"boxes": ("bbox_2d", 4), "points": ("point_2d", 2)}
# No tag may begin in a string: `parse` reads tags anywhere, `parse_actions` its <tool_call>.
_LABEL = {"type": "string", "pattern": "^[^<>]*$"}
_WORDS = {"type": "string", "pattern": "^([^<]|<+(t<+)*([^<t]|t[^<o]))*(<+(t<+)*t?)?$"}


def schema(
    kind: str,
    sizes: Sequence[Size],
    labels: Sequence[str] | None = None,
    max_items: int | None = None,
    tool: str | None = None,
) -> dict:
    """The JSON schema of an answer whose coordinates cannot leave the pictures.

    kind: what the answer lists.
        - "boxes": `[{"bbox_2d": [x1, y1, x2, y2], "label": "..."}, ...]`, for `parse`;
        - "points": `[{"point_2d": [x, y], "label": "..."}, ...]`, for `parse`;
        - "actions": `[{"name": tool, "arguments": {"action": "...", ...}}, ...]`, for `parse_actions`: each with the arguments
          that its action needs, and at least one.
    sizes: (width, height) of each picture of the prompt that coordinates count on: its resized size, as the processor returns
        it (Qwen2.5-VL); (1000, 1000) for models that count on a grid (Qwen-VL, Qwen2-VL), and then as `resized_sizes` of
        `parse`, too. With several pictures each box and point begins with its picture's number, `"image": 1`, and stays in that
        picture. Actions are for the last one, the screen as it is now.
    labels: what boxes and points may be called; None for any text without "<" and ">", which begin tags.
    max_items: the most that are listed; None for as many as the model likes.
    tool: of actions: "computer_use" or "mobile_use"; None for either.

    Coordinates are whole numbers from 0 to the width or height. That x1 <= x2 no schema can say: `parse` puts corners in order.

    Raises GroundingError for a kind that is none, and for arguments that do not belong to it or make no sense.
    """
    if kind not in (*_SHAPES, "actions"):
        raise GroundingError(f"There is no kind {kind!r}; choose one of {', '.join(_SHAPES)}, actions.")
    if not isinstance(sizes, Sequence) or not sizes:
        raise GroundingError(
            f"sizes is {sizes!r}; expected (width, height) of each picture, as the processor returns it."
        )
    sizes = [check_size(f"sizes[{i}]", size) for i, size in enumerate(sizes)]
    if max_items is not None and (not isinstance(max_items, int) or isinstance(max_items, bool) or max_items < 1):
        raise GroundingError(f"max_items is {max_items!r}; expected a number of 1 or more, or None.")
    listed = {"type": "array"}
    if kind == "actions":
        items = _actions(sizes[-1], labels, tool)
        listed["minItems"] = 1
    else:
        if tool is not None:
            raise GroundingError(f"tool is {tool!r}, but {kind} have none; give it for actions alone.")
        items = [_shape(*_SHAPES[kind], size, labels) for size in sizes]
        if len(items) > 1:
            items = [_object({"image": {"const": i}} | item["properties"]) for i, item in enumerate(items, 1)]
    listed["items"] = items[0] if len(items) == 1 else {"anyOf": items}
    return listed if max_items is None else listed | {"maxItems": max_items}


def _object(properties: dict, optional: Sequence[str] = ()) -> dict:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _point(size: Size) -> list[dict]:
    return [{"type": "integer", "minimum": 0, "maximum": int(side)} for side in size]


def _array(items: list[dict]) -> dict:
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _shape(key: str, numbers: int, size: Size, labels: Sequence[str] | None) -> dict:
    if labels is not None and (
        isinstance(labels, str) or not labels or not all(isinstance(label, str) and label for label in labels)
    ):
        raise GroundingError(f"labels is {labels!r:.100}; expected a list of one or more texts, or None for any.")
    label = _LABEL if labels is None else {"enum": [*labels]}
    return _object({key: _array(_point(size) * (numbers // 2)), "label": label})


def _actions(size: Size, labels: Sequence[str] | None, tool: str | None) -> list[dict]:
    if labels is not None:
        raise GroundingError(f"labels is {labels!r:.100}, but actions have none; give it for boxes and points alone.")
    if tool is not None and tool not in TOOLS:
        raise GroundingError(f"There is no tool {tool!r}; choose one of {', '.join(TOOLS)}, or None for either.")
    point = _array(_point(size))
    arguments = {
        **{name: {"enum": given["enum"]} for name, given in ARGUMENTS.items() if "enum" in given},
        "keys": {"type": "array", "items": _WORDS, "minItems": 1},
        "text": _WORDS,
        "coordinate": point,
        "coordinate2": point,
        "pixels": {"type": "integer", "minimum": -99999, "maximum": 99999},
        "time": {"type": "number", "minimum": 0, "maximum": 3600},
    }

    def call(name: str, action: str, needs: tuple[str, ...]) -> dict:
        optional = () if needs else ("coordinate",)  # a click is where the cursor is, or at a point
        properties = {"action": {"const": action}, **{key: arguments[key] for key in (*needs, *optional)}}
        return _object({"name": {"const": name}, "arguments": _object(properties, optional)})

    names = TOOLS if tool is None else [tool]
    return [call(name, action, needs) for name in names for action, (_, needs) in TOOLS[name].items()]
