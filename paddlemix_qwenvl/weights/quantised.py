"""Quantised weights out of a checkpoint into layers: tensors of several modules become one, where one format can hold them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from paddlemix_qwenvl.layers.formats import Apart, Arrays, Beside, Dense, Format, Fp8, Gathered, Int4, Int8
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import Piece
from paddlemix_qwenvl.weights.casts import BLOCK, as_tensor, cast, empty
from paddlemix_qwenvl.weights.checkpoint import Checkpoint
from paddlemix_qwenvl.weights.groups import Groups
from paddlemix_qwenvl.weights.layouts import Layout, WeightFile
from paddlemix_qwenvl.weights.order import GROUPS_OF, Order


@dataclass(frozen=True)
class Source:
    """Rows of a layer's weight, and how they lie in a checkpoint.

    Attributes:
        piece: which rows, and this rank's part of a module's weight.
        module: the Hub's name of it.
    """

    piece: Piece
    module: str
    layout: Layout

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what a checkpoint must hold."""
        return {f"{self.module}.{name}": shape for name, shape in self.layout.tensors(self.piece.shape).items()}

    def known(self) -> list[str]:
        """Names of what it may hold besides."""
        return [f"{self.module}.{name}" for name in (*self.layout.known, "bias")]

    def of(self, checkpoint: Checkpoint) -> WeightFile:
        """The weight in a checkpoint."""
        return WeightFile(checkpoint, self.module, self.layout, self.piece.shape, self.piece.source[1])


@dataclass(frozen=True)
class _Part:
    """Rows of a layer that one format holds.

    Attributes:
        order: of the columns, where it is not that of the input.
        number: what the numbers are kept in that are no integers; None where that is not known yet.
    """

    format: Format
    order: Order | None
    number: np.dtype | None
    sources: tuple[Source, ...]

    @property
    def rows(self) -> slice:
        """Which of the layer's."""
        return slice(self.sources[0].piece.rows.start, self.sources[-1].piece.rows.stop)

    @property
    def height(self) -> int:
        """How many these are."""
        return self.rows.stop - self.rows.start

    def with_next(self, other: _Part) -> _Part | None:
        """Both as one, None where no format holds both: then one of them would have to be rounded."""
        formats = [self.format, other.format]
        if all(isinstance(format, Int4) for format in formats):
            has_zeros = any(format.has_zeros for format in formats)
            formats = [replace(format, has_zeros=has_zeros) for format in formats]
        columns = [part.order and part.order.columns for part in (self, other)]
        same = formats[0] == formats[1] and self.number == other.number and np.array_equal(*columns)
        return _Part(formats[0], self.order, self.number, self.sources + other.sources) if same else None


@dataclass(frozen=True)
class Laid:
    """A layer whose weight is quantised in its checkpoint."""

    layer: Linear
    sources: list[Source]

    def format(self) -> Format:
        """What is to hold the weight, as far as it can be known without the checkpoint."""
        parts = _joined([_Part(_format(each.layout, each.piece), None, None, (each,)) for each in self.sources])
        formats, heights = zip(*((part.format, part.height) for part in parts), strict=True)
        return formats[0] if len(parts) == 1 else Apart(formats, heights)


def laid_of(parameter) -> Laid | None:
    """How a weight lies in a checkpoint, None where it is not quantised there."""
    return getattr(parameter, "laid", None)


def fill_layer(laid: Laid, checkpoint: Checkpoint, pool: ThreadPoolExecutor, mapped: bool) -> None:
    """Let a layer hold its weight as it lies in a checkpoint; its quantised modules may bring biases that the model has not.

    Args:
        mapped: whether what lies in the file as it is held may stay there.
    """
    layer, sources = laid.layer, laid.sources
    parts = _joined([_part(source, checkpoint) for source in sources])
    width = layer.weight.shape[1]
    held = [(part.format, part.height, _tensors(part, width, checkpoint, pool, mapped)) for part in parts]
    if layer.bias is None:
        _add_bias(layer, sources, checkpoint)
    layer.hold(*(Apart.of(held) if len(held) > 1 else held[0][::2]))
    for name in (name for source in sources for name in source.tensors()):
        checkpoint.release(name)


def _joined(parts: list[_Part]) -> list[_Part]:
    """Neighbours that one format can hold, as one."""
    found: list[_Part] = []
    for part in parts:
        both = found[-1].with_next(part) if found else None
        found[len(found) - bool(both) :] = [both or part]
    return found


def _format(layout: Layout, piece: Piece) -> Format:
    """What holds rows of a weight that lies so, as far as it can be known without its file."""
    if not isinstance(layout, Groups):
        return {"int8": Int8, "fp8": Fp8, None: Dense}[layout.held]()
    width = piece.source[1].stop - piece.source[1].start
    if layout.may_have_order and width < piece.shape[1]:
        groups = piece.shape[1] // (layout.group_size or piece.shape[1])
        return _gathered(layout, width + groups * GROUPS_OF // 2)  # half of what may fill each group up
    if layout.bits == 4:
        return Int4(layout.group_size or width, layout.has_zeros, layout.may_have_order)
    return Beside(width // (layout.group_size or width), layout.may_have_order)


def _gathered(layout: Groups, width: int) -> Gathered:
    return Gathered(Int4(GROUPS_OF, layout.has_zeros) if layout.bits == 4 else Beside(width // GROUPS_OF), width)


def _part(source: Source, checkpoint: Checkpoint) -> _Part:
    file, layout = source.of(checkpoint), source.layout
    order = layout.order(file)
    if isinstance(layout, Groups):
        layout = replace(layout, has_zeros=layout.zeros_differ(file), may_have_order=order is not None)
        if layout.bits == 8 and layout.has_zeros:
            raise file.unlike("qzeros", "of other zeros than 128", "symmetric numbers of 8 bits")
    format = _format(layout, source.piece)
    if isinstance(format, Gathered):
        format = _gathered(layout, len(order.columns))
    return _Part(format, order, layout.number(file), (source,))


def _tensors(part: _Part, width: int, checkpoint: Checkpoint, pool: ThreadPoolExecutor, mapped: bool) -> dict:
    """The part's tensors, read some rows at a time."""
    kinds = part.format.arrays((part.height, width), part.number)
    placed = _in_place(part, kinds, checkpoint) if mapped else {}
    arrays = {name: empty(*kind) for name, kind in kinds.items() if name not in placed}
    if part.order is not None:
        arrays["inputs" if isinstance(part.format, Gathered) else "order"][...] = np.maximum(part.order.columns, 0)
    if "zeros" in arrays:
        arrays["zeros"][...] = 8  # which those without any have
    step = max(8, BLOCK * 8 // width // 8 * 8)
    if "weight" in placed and not isinstance(part.format, Fp8):  # whose numbers are looked at
        step = part.height

    def read(source: Source, start: int) -> None:
        rows = source.piece.source[0]
        some = slice(rows.start + start, min(rows.start + start + step, rows.stop))
        first = source.piece.rows.start - part.rows.start + start
        for name, values in source.layout.read(source.of(checkpoint), some, part.order).items():
            if name in arrays:  # zeros that are all 8 are left out, and what is mapped
                arrays[name][first : first + len(values)] = values

    blocks = [
        (source, start)
        for source in part.sources
        for start in range(0, source.piece.rows.stop - source.piece.rows.start, step)
    ]
    list(pool.map(lambda block: read(*block), blocks))
    tensors = {name: as_tensor(array) for name, array in (arrays | placed).items()}
    inner = getattr(part.format, "inner", part.format)
    return inner.held(tensors) if isinstance(inner, Beside) else tensors


def _in_place(part: _Part, kinds: Arrays, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """Those of the part's tensors that lie in a file as the format holds them."""
    sources = [(source.of(checkpoint), source.piece.source[0]) for source in part.sources]
    whole = all(file.columns == slice(0, file.shape[1]) for file, _ in sources)
    if part.order is not None or not whole:
        return {}
    found = {}
    for name, tensor in part.sources[0].layout.as_held.items():
        names = [f"{file.module}.{tensor}" for file, _ in sources]
        values = [file.read(tensor, rows)[0] for file, rows in sources]
        if name != "weight" and values[0].dtype != kinds[name][1]:
            continue
        if (array := checkpoint.in_place(names, values, *kinds[name])) is not None:
            found[name] = array
    return found


def _add_bias(layer: Linear, sources: list[Source], checkpoint: Checkpoint) -> None:
    """AutoGPTQ writes a bias of every module, of zeros where there was none."""
    found = np.zeros(layer.weight.shape[0], np.float32)
    for source in sources:
        if source.of(checkpoint).has("bias"):
            rows, outputs = source.piece.source[0], source.piece.shape[0]
            values, is_bfloat16 = checkpoint.read(f"{source.module}.bias", (outputs,), (rows,), linear=False)
            found[source.piece.rows] = cast(values, is_bfloat16, "float32")
    if found.any():
        layer.add_bias(as_tensor(found).astype(layer.weight.dtype))
