"""Schemas of functions: what transformers 5.24.0 gives for them."""

import enum
from typing import Any, Literal, Optional

import pytest

from paddlemix_qwenvl.errors import PromptError
from paddlemix_qwenvl.models.tool_schemas import schema_of


class Colour(enum.Enum):
    RED = "red"
    ONE = 1


class Shop:
    def price(self, item: str):
        """Tells a price.

        Args:
            item: What for (see "list": all)
        """


def multiply(x: float, y: int) -> float:
    """
    Multiplies two numbers.

    However large.

    Args:
        x: The first number
        y (int): The second number,
            which goes on: here
            and here

    Returns:
        The product: a number.

    Raises:
        ValueError: never
    """


def test_a_function():
    x = {"type": "number", "description": "The first number"}
    y = {"type": "integer", "description": "The second number, which goes on: here and here"}
    assert schema_of(multiply) == {
        "type": "function",
        "function": {
            "name": "multiply",
            "description": "Multiplies two numbers.\n\nHowever large.",
            "parameters": {"type": "object", "properties": {"x": x, "y": y}, "required": ["x", "y"]},
            "return": {"type": "number", "description": "The product: a number."},
        },
    }


def test_a_method_and_a_function_of_nothing():
    def now() -> Colour:
        """Tells the time."""

    item = {"type": "string", "description": 'What for (see "list": all)'}
    parameters = {"type": "object", "properties": {"item": item}, "required": ["item"]}
    assert schema_of(Shop().price)["function"]["parameters"] == parameters
    assert schema_of(now)["function"] == {
        "name": "now",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {}},
        "return": {"type": ["string", "integer"], "enum": ["red", 1]},
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (bool, {"type": "boolean"}),
        (list, {"type": "array"}),
        (dict, {"type": "object"}),
        (Any, {}),
        (Optional[int], {"type": "integer", "nullable": True}),  # noqa: UP045
        (int | str, {"type": ["integer", "string"]}),
        (list | tuple, {"type": "array"}),
        (list[int] | None, {"type": "array", "items": {"type": "integer"}, "nullable": True}),
        (list[int] | str, {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "string"}]}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (tuple[int, str], {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, None], {"type": ["integer", "null"], "enum": [1, None]}),
        (Colour, {"type": ["string", "integer"], "enum": ["red", 1]}),
    ],
    ids=str,
)  # fmt: skip
def test_type_hints(hint, schema):
    def look(x: hint = None):
        """Looks.

        Args:
            x: Where.
        """

    parameters = schema_of(look)["function"]["parameters"]
    assert parameters == {"type": "object", "properties": {"x": {**schema, "description": "Where."}}}


def test_choices():
    def drink(what: str):
        """Drinks.

        Args:
            what: Of these (choices: ["tea ", "coffee"])
        """

    wanted = {"type": "string", "enum": ["tea", "coffee"], "description": "Of these"}
    assert schema_of(drink)["function"]["parameters"]["properties"] == {"what": wanted}


def silent(x: int):
    pass


def untyped(x):
    """Does.

    Args:
        x: X
    """


def undescribed(x: int):
    """Does."""


def custom(x: Shop):
    """Does.

    Args:
        x: X
    """


def unwritten(x: "Nowhere"):  # noqa: F821
    """Does.

    Args:
        x: X
    """


def unclear(x: str):
    """Does.

    Args:
        x: X (choices: [a])
    """


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        (silent, "silent has no docstring"),
        (untyped, "untyped has no type hint for 'x'"),
        (undescribed, "undescribed has no description .* for 'x'"),
        (custom, "custom: JSON has no type for .*Shop"),
        (unwritten, "hints of the tool unwritten cannot be read"),
        (unclear, r"unclear: \(choices: \[a\]\) is no JSON list"),
        (print, "is no tool"),
        (Shop, "is no tool"),
        (5, "5 is no tool"),
    ],
    ids=range(9),
)
def test_what_has_no_schema(tool, message):
    with pytest.raises(PromptError, match=message):
        schema_of(tool)
