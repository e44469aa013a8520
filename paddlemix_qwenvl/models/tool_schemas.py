"""JSON schemas of Python functions, by their type hints and docstrings, for the tools that a chat template lists.

Source: `get_json_schema` of transformers 5.24.0.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from collections.abc import Callable, Hashable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from PIL.Image import Image

from paddlemix_qwenvl.errors import PromptError

_SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
_BARE = {
    **{kind: {"type": name} for kind, name in _SCALARS.items()},
    **{list: {"type": "array"}, tuple: {"type": "array"}, dict: {"type": "object"}, Any: {}, Image: {"type": "image"}},
}
_SECTION = re.compile(r"^[ \t]*(Args|Returns|Raises):[ \t]*$\n?", re.MULTILINE)
_ARGUMENT = re.compile(r"^(\w+)(?:[ \t]*\([^()\n]*\))?:[ \t]*(.*)$")
_CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.IGNORECASE)


def schema_of(function: Callable) -> dict:
    """`{"type": "function", "function": {"name", "description", "parameters"}}`, with "return" where the hints say one.

    Raises:
        PromptError: it is no function; it has no docstring; an argument has no type hint, none that JSON knows, or no description
            in the docstring's `Args:`.
    """
    if not inspect.isroutine(function) or inspect.isbuiltin(function):
        raise PromptError(
            f"{function!r:.200} is no tool: give a JSON schema, or a function with type hints and a docstring."
        )
    name, text = function.__name__, inspect.getdoc(function)
    if not text:
        raise PromptError(f"the tool {name} has no docstring: say there what it does, and what each argument is.")
    description, *sections = _SECTION.split(text)
    sections = dict(zip(sections[::2], sections[1::2], strict=True))
    described = _arguments(sections.get("Args", ""))
    hints = _hints(function)
    names, required = _parameters(function)
    properties = {}
    for argument in names:
        if argument not in hints or argument not in described:
            missing = "type hint" if argument not in hints else "description under Args: in its docstring"
            raise PromptError(f"the tool {name} has no {missing} for {argument!r}: add it, or give a JSON schema.")
        properties[argument] = _described(_schema(hints[argument], name), described[argument], name)
    parameters = {"type": "object", "properties": properties} | ({"required": required} if required else {})
    found = {"name": name, "description": description.strip(), "parameters": parameters}
    return {"type": "function", "function": found | _returned(hints, sections.get("Returns", "").strip(), name)}


def _parameters(function: Callable) -> tuple[list[str], list[str]]:
    """Names of all arguments but a method's own object, and of those that have no default."""
    parameters = list(inspect.signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls") and parameters[0].annotation is inspect.Parameter.empty:
        parameters = parameters[1:]
    return [one.name for one in parameters], [one.name for one in parameters if one.default is one.empty]


def _hints(function: Callable) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception as error:  # a hint is an expression of the user's
        raise PromptError(f"the type hints of the tool {function.__name__} cannot be read: {error}") from error


def _returned(hints: dict[str, Any], description: str, tool: str) -> dict:
    if "return" not in hints:
        return {}
    try:
        schema = _schema(hints["return"], tool)
    except PromptError:  # templates hardly show it, and the model never writes it
        return {}
    return {"return": schema | ({"description": description} if description else {})}


def _described(schema: dict, description: str, tool: str) -> dict:
    """With its description, at whose end `(choices: [...])` may list what is allowed."""
    found = _CHOICES.search(description)
    if not found:
        return {**schema, "description": description}
    try:
        choices = [one.strip() if isinstance(one, str) else one for one in json.loads(found.group(1))]
    except (ValueError, TypeError) as error:
        raise PromptError(f"the tool {tool}: (choices: {found.group(1)}) is no JSON list: {error}") from error
    return {**schema, "enum": choices, "description": description[: found.start()].strip()}


def _arguments(block: str) -> dict[str, str]:
    """Descriptions by name from the lines under `Args:`; lines that are indented further belong to the one before."""
    found: dict[str, list[str]] = {}
    for line in inspect.cleandoc("\n" + block).splitlines():
        if match := _ARGUMENT.match(line):
            found[match[1]] = lines = [match[2].strip()]
        elif found and line.strip():
            lines.append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in found.items()}


def _schema(hint: Any, tool: str) -> dict:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(arguments, tool)
    if origin is Literal:
        return _enumeration(list(arguments), hint, tool)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _enumeration([member.value for member in hint], hint, tool)
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], tool)}
    if origin is tuple and len(arguments) > 1 and ... not in arguments:
        return {"type": "array", "prefixItems": [_schema(one, tool) for one in arguments]}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], tool)}
    if isinstance(hint, Hashable) and hint in _BARE:
        return dict(_BARE[hint])
    raise PromptError(f"the tool {tool}: JSON has no type for {hint!r}: give a JSON schema in place of the function.")


def _union(hints: tuple, tool: str) -> dict:
    schemas = [_schema(hint, tool) for hint in hints if hint is not type(None)]
    if len(schemas) == 1:
        schema = schemas[0]
    elif all(one.keys() == {"type"} and isinstance(one["type"], str) for one in schemas):
        names = sorted({one["type"] for one in schemas})
        schema = {"type": names[0] if len(names) == 1 else names}
    else:
        schema = {"anyOf": schemas}
    return schema | ({"nullable": True} if type(None) in hints else {})


def _enumeration(values: list, hint: Any, tool: str) -> dict:
    if not values or any(type(value) not in _SCALARS for value in values):
        raise PromptError(f"the tool {tool}: {hint!r} lists something else than numbers, texts, True, False and None.")
    kinds = list(dict.fromkeys(_SCALARS[type(value)] for value in values))
    return {"type": kinds[0] if len(kinds) == 1 else kinds, "enum": values}
