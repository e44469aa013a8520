"""The sequences of one request."""

from __future__ import annotations

from dataclasses import dataclass, field

import paddle

from paddlemix_qwenvl.engine.beam import BeamSearch
from paddlemix_qwenvl.engine.sequence import Request, Sequence


@dataclass
class Group:
    """A request: its sequences, and of a beam search the logits of those that wait for the others."""

    request: Request
    sequences: list[Sequence]
    beams: BeamSearch | None = None
    logits: dict[int, paddle.Tensor] = field(default_factory=dict)
    is_forked: bool = False

    @property
    def width(self) -> int:
        """Sequences it goes on with after its prompt."""
        return self.request.settings.width
