"""A seeded table as `table_model`'s on a device that computes while Python goes on: tokens are not known before they are read."""

from dataclasses import replace

import numpy as np
from table_model import TableModel

from paddlemix_qwenvl.engine.runner import Drawn
from paddlemix_qwenvl.engine.sampling import draw


class AheadModel(TableModel):
    """Attributes: log: "queued" and "read" with the number of a step, in the order in which it was done."""

    is_asynchronous = True

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.log: list[tuple[str, int]] = []
        self._drawn = np.zeros(0, np.int64)

    def decode(self, inputs, rows):
        assert inputs.decoding and inputs.source is None and all(row.mask is None and not row.top for row in rows)
        unread = inputs.ids < 0
        ids = inputs.ids.copy()
        ids[unread] = self._drawn[-1 - ids[unread]]
        logits, counted = super().step(replace(inputs, ids=ids), []), []
        for row, token, late in zip(rows, ids.tolist(), unread, strict=True):
            marks = row.marks.copy()
            if late:
                marks.add(token)
            counted.append(replace(row, marks=marks))
        self._drawn, scores = draw(logits, counted)
        self.log.append(("queued", self.steps))
        return _Late(self, self.steps, self._drawn.tolist(), scores.tolist())


class _Late(Drawn):
    def __init__(self, model: AheadModel, step: int, *drawn):
        self._model, self._step, self._drawn = model, step, drawn

    def read(self):
        self._model.log.append(("read", self._step))
        return self._drawn
