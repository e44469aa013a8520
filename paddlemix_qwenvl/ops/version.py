"""What a fast version of an operation says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Version(NamedTuple):
    """A fast version of an operation.

    Attributes:
        run: called with the arguments of the operation's definition.
        differentiable: taken where a gradient is asked for too.
        describe: what runs, for `ops.status()`.
    """

    run: Callable
    differentiable: bool
    describe: Callable[[], str]
