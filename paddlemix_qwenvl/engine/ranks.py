"""Several ranks: the first one has the engine and decides, the others compute what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import paddle

from paddlemix_qwenvl import errors
from paddlemix_qwenvl.dtypes import dtype_name
from paddlemix_qwenvl.engine.messages import receive, send
from paddlemix_qwenvl.engine.runner import Runner, StepInputs
from paddlemix_qwenvl.errors import ParallelError, QwenVLError
from paddlemix_qwenvl.models.prompts import Media
from paddlemix_qwenvl.parallel import TensorParallel


def on_all_ranks(
    parallel: TensorParallel, runners: Sequence[Runner], prepare: Callable[[], Any], answer: Callable[..., Any]
) -> Any:
    """What rank 0 answers, on all ranks, each of which calls this.

    Args:
        runners: this rank's, of the same kinds as the others'.
        prepare: called on rank 0 alone; the others wait up to 15 minutes for it.
        answer: called on rank 0 alone, with what was prepared and the runners for its engines, which the others' runners follow.
            Returns what JSON and NumPy arrays hold; tuples come as lists to the others.

    Raises:
        Exception: what rank 0 raised; on the others the same for errors of this package, else ParallelError.
        ParallelError: a rank was lost, or one could not finish what all of them compute.
    """
    if parallel.degree == 1:
        return answer(prepare(), *runners)
    if parallel.rank:
        parallel.meet()
        return follow(runners, parallel)
    leading = [LeadingRunner(runner, parallel, index) for index, runner in enumerate(runners)]
    try:
        try:
            prepared = prepare()
        finally:
            parallel.meet()
        given = answer(prepared, *leading)
    except ParallelError:  # the others do not listen any more
        raise
    except Exception as error:
        send(parallel, ["fail", *_described(error)])
        raise
    send(parallel, ["return", given])
    return given


class LeadingRunner(Runner):
    """Rank 0's runner: the other ranks, which `follow`, are told of all that it does.

    Args:
        runner: does this rank's share.
        index: of the others' runners that do theirs.
    """

    def __init__(self, runner: Runner, parallel: TensorParallel, index: int = 0):
        super().__init__(runner.facts)
        self._runner, self._parallel, self._index = runner, parallel, index

    def free_memory(self) -> tuple[str, int]:
        """As in `Runner`; ranks that compute on CPUs are taken to share one memory."""

        def least() -> tuple[str, int]:
            device, free = self._runner.free_memory()
            return device, self._parallel.least(free) // (self._parallel.degree if device == "cpu" else 1)

        return self._lead("free_memory", [], least)

    def allocate(self, num_blocks: int, block_size: int) -> None:
        """As in `Runner`."""
        self._lead("allocate", [num_blocks, block_size], lambda: self._runner.allocate(num_blocks, block_size))

    def copy_blocks(self, pairs: list[tuple[int, int]]) -> None:
        """As in `Runner`."""
        self._lead("copy_blocks", pairs, lambda: self._runner.copy_blocks(pairs))

    def beat(self) -> None:
        """As in `Runner`."""
        self._lead("beat", [], lambda: None)

    def encode(self, media: Sequence[Media]) -> list:
        """As in `Runner`."""
        told = [[np.frombuffer(each.key, np.uint8), dict(each.inputs), each.places] for each in media]
        return self._lead("encode", told, lambda: self._runner.encode(media))

    def step(self, inputs: StepInputs, features: list) -> paddle.Tensor:
        """As in `Runner`. Features go to the others as they are: these need not know which of them are kept here."""
        features = [paddle.concat(features)] if features else []

        def step():
            return self._runner.step(inputs, [self._parallel.broadcast(each) for each in features])

        return self._lead("step", [vars(inputs), [[each.shape, dtype_name(each.dtype)] for each in features]], step)

    def _lead(self, action: str, told: list, work: Callable):
        send(self._parallel, [action, self._index, told])
        try:
            return work()
        except QwenVLError:  # the others, who were given the same, have it too
            raise
        except Exception as error:
            raise ParallelError(
                f"rank 0 of {self._parallel.degree} could not finish what the others wait for ({_words(error)}): start them again."
            ) from error


def follow(runners: Sequence[Runner], parallel: TensorParallel) -> Any:
    """Do this rank's share of what rank 0 does until it says what comes of it.

    Raises:
        QwenVLError: what rank 0 raised.
        ParallelError: rank 0 raised what is not of this package, or was lost.
    """
    while True:
        action, *told = receive(parallel)
        if action == "return":
            return told[0]
        if action == "fail":
            _fail(parallel, *told)
        try:
            _FOLLOWED[action](runners[told[0]], told[1], parallel)
        except ParallelError:
            raise
        except QwenVLError:  # rank 0 has it too, and says what follows from it
            continue


def _encode(runner: Runner, told: list, parallel: TensorParallel) -> None:
    runner.encode([Media(key.tobytes(), inputs, places) for key, inputs, places in told])


def _step(runner: Runner, told: list, parallel: TensorParallel) -> None:
    inputs, features = told
    runner.step(StepInputs(**inputs), [parallel.broadcast(paddle.empty(*each)) for each in features])


_FOLLOWED: dict[str, Callable[[Runner, list, TensorParallel], Any]] = {
    "free_memory": lambda runner, _, parallel: parallel.least(runner.free_memory()[1]),
    "allocate": lambda runner, told, _: runner.allocate(*told),
    "copy_blocks": lambda runner, told, _: runner.copy_blocks(told),
    "beat": lambda *_: None,
    "encode": _encode,
    "step": _step,
}


def _described(error: Exception) -> tuple[str, str]:
    """Class and text of an error, as `_fail` raises it; no class for one that is not of this package."""
    if isinstance(error, QwenVLError):
        return type(error).__name__, str(error)
    return "", _words(error)


def _fail(parallel: TensorParallel, name: str, text: str) -> NoReturn:
    if name:
        raise getattr(errors, name)(text)
    raise ParallelError(f"rank 0 of {parallel.degree} ended with an error of its own, and its log says where ({text}).")


def _words(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
