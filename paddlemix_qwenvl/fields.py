"""Settings files as data that may be wrong: JSON objects read, and checked against dataclasses by pydantic, in one place.

A dataclass says what a file may hold: its fields' names, types, ranges and defaults. Types are the ones below, `Literal`s,
lists and dicts of these, other dataclasses, and unions with None. What does not fit is a `ConfigurationError` that names the file,
the key, the value and what was expected. Keys that no field has are left alone, and null stands for the default.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import make_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, StrictBool, StrictStr, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from paddlemix_qwenvl.errors import ConfigurationError

T = TypeVar("T")
_OPENING = re.compile(r"^(Input|List|Dictionary|String|Value) should (be |have |match )?")
_NOUNS = {"dataclass_type": "an object", "dict_type": "an object"}
MAX_BYTES = 64 << 20  # tokenizer.json of these families has 11 MB

Flag = StrictBool
Text = StrictStr
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Whole = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
"""A count that may be 0, or the id of a token."""
Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]


def _only(wanted: bool) -> Any:
    def check(value: bool) -> bool:
        if value is not wanted:
            raise PydanticCustomError("only", "Input should be {wanted}", {"wanted": shown(wanted)})
        return value

    return Annotated[bool, Field(strict=True), AfterValidator(check)]


Always, Never = _only(True), _only(False)
"""A flag that can have one value; a `Literal` would take 1 and 0, too."""


def read_text(path: str | os.PathLike) -> str:
    """The text of a file.

    Raises:
        ConfigurationError: the file cannot be read, is over 64 MiB, or is not in UTF-8.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has over {MAX_BYTES >> 20} MiB")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{path} cannot be read ({reason}): download or write it again.") from error


def read_object(path: str | os.PathLike) -> dict:
    """The JSON object in a file.

    Raises:
        ConfigurationError: the file cannot be read, is over 64 MiB, or holds no JSON object in UTF-8.
    """
    try:
        found = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} cannot be read as JSON ({error}): download or write it again.") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds {shown(found)}, expected a JSON object: download or write it again.")
    return found


def checked(kind: type[T], given: Mapping[str, Any], source: str | os.PathLike) -> T:
    """The dataclass `kind` from the keys and values of a file, or of keyword arguments.

    Args:
        source: the file's name, or what else gave them, for the message.

    Raises:
        ConfigurationError: a value that does not fit its field, or a field without a default that is missing.
    """
    present = _without_null(given)
    try:
        return _adapter(kind).validate_python(present)
    except ValidationError as error:
        raise ConfigurationError(f"{os.fspath(source)}: {_explained(error, present)}.") from error
    except RecursionError as error:
        raise ConfigurationError(f"{os.fspath(source)}: it is nested too deeply.") from error


def optional_fields(name: str, *rows: tuple[Any, str]) -> type:
    """A dataclass, by this `name`, of fields that are None where a file does not say them.

    Args:
        rows: a type, and the names of the fields that have it.
    """
    return make_dataclass(name, [(field, kind | None, None) for kind, names in rows for field in names.split()])


def wrong(source: str | os.PathLike, key: str, value: Any, expected: str) -> ConfigurationError:
    """The error for a value that its type allows but nothing else does."""
    return ConfigurationError(f"{os.fspath(source)}: {key} is {shown(value)}, expected {expected}.")


def shown(value: Any) -> str:
    """A value as JSON has it, cut to a length that fits a message."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)


def _without_null(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_null(inner) for key, inner in value.items() if inner is not None}


def _explained(error: ValidationError, given: Any) -> str:
    """The deepest fault: where types are alternatives, each adds what it expected."""
    faults: dict[tuple, list[str]] = {}
    for fault in error.errors(include_url=False, include_context=False):
        expected = _NOUNS.get(fault["type"]) or _OPENING.sub("", fault["msg"]).partition(" after validation")[0]
        missing = fault["type"] in ("missing", "missing_argument")
        place = (*_followed(given, fault["loc"][: -1 if missing else None]), *([fault["loc"][-1]] if missing else []))
        faults.setdefault(place, []).append("missing" if missing else expected)
    place = max(faults, key=len)
    expected = " or ".join(dict.fromkeys(faults[place]))
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    if expected == "missing":
        return f"{key} is missing"
    value = given
    for part in place:
        value = value[part]
    return f"{key or 'it'} is {shown(value)}, expected {expected}"


def _followed(given: Any, location: tuple) -> tuple:
    """The parts of pydantic's location that are keys of the data; the others name alternatives of a type."""
    place = []
    for part in location:
        if (isinstance(given, Mapping) and part in given) or (
            isinstance(given, list | tuple) and isinstance(part, int)
        ):
            given = given[part]
            place.append(part)
    return tuple(place)
