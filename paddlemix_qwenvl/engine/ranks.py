"""Several ranks: the first one has the engine, the others do what it says."""

from __future__ import annotations

from collections.abc import Callable

from paddlemix_qwenvl.engine.runner import ModelRunner


def runner_of(model):
    return ModelRunner(model)


def on_all_ranks(model, answer: Callable):
    return answer()
