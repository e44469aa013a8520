"""/openapi.json with what only the model that is served can tell: its names, and the ids of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from paddlemix_qwenvl.server.protocol import MARK, MODEL_NAME, TOKEN_ID, TOKEN_NAMES

if TYPE_CHECKING:
    from paddlemix_qwenvl.server.service import Service


def describe(app: FastAPI, service: Service) -> None:
    """Complete what an application says of itself, as far as it is known by then."""
    general = app.openapi

    def openapi() -> dict[str, Any]:
        known: dict[str, dict[str, Any]] = {MODEL_NAME: {"enum": service.model_names}}
        if service.assistant is not None:
            size = service.assistant.runner.facts.vocab_size
            known |= {TOKEN_ID: {"maximum": size - 1}, TOKEN_NAMES: {"propertyNames": {"pattern": below(size)}}}
        return _completed(general(), known)

    app.openapi = openapi


def _completed(value: Any, known: dict[str, dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_completed(each, known) for each in value]
    if not isinstance(value, dict):
        return value
    told = {name: _completed(each, known) for name, each in value.items() if name != MARK}
    return told | known.get(value.get(MARK), {})


def below(number: int) -> str:
    """The regular expression of the numbers from 0 to one before this."""
    digits = str(number - 1)
    shorter = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    cases = []
    for place, digit in enumerate(digits):
        least = int(place == 0 and len(digits) > 1)
        if int(digit) > least:
            cases.append(f"{digits[:place]}[{least}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}")
    return f"^(?:{'|'.join(['0', *shorter, *cases, digits])})$"
