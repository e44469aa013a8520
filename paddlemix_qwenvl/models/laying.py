"""Which weights of a model are quantised in its checkpoint, and how each lies there."""

from __future__ import annotations

from paddlemix_qwenvl.errors import ConfigurationError, ParallelError
from paddlemix_qwenvl.layers.linear import Linear
from paddlemix_qwenvl.layers.parameter import Piece, pieces_of
from paddlemix_qwenvl.models.quantization import Module, Quantization
from paddlemix_qwenvl.parallel import tensor_parallel
from paddlemix_qwenvl.weights.layouts import HEAD, Layout, Plain
from paddlemix_qwenvl.weights.quantised import Laid, Source


def lay(model, quantization: Quantization, dtype: str) -> None:
    """Tell the weights of a model how they lie in a checkpoint.

    Args:
        model: of `models/pretrained.py`, without memory yet.
        quantization: what the checkpoint's config.json says.
        dtype: of what is not quantised.

    Raises:
        ConfigurationError: weights that cannot lie so.
        ParallelError: weights of which a rank cannot have its part.
    """
    layers = {id(layer.weight): layer for layer in model.sublayers() if isinstance(layer, Linear)}
    for path, weight in model.named_parameters():
        pieces = pieces_of(weight)
        if id(weight) not in layers or not all(piece.linear for piece in pieces):
            continue
        names = [piece.name(path).removesuffix(".weight") for piece in pieces]
        layouts = [_layout(model, quantization, *each) for each in zip(names, pieces, strict=True)]
        if any(layouts):
            parts = zip(pieces, names, layouts, strict=True)
            sources = [Source(piece, name, layout or Plain(dtype)) for piece, name, layout in parts]
            weight.laid = Laid(layers[id(weight)], sources)


def _layout(model, quantization: Quantization, name: str, piece: Piece) -> Layout | None:
    """Of a module's weight; None where it is not quantised."""
    renamed = {long: short for long, short in model.weight_prefixes.items() if name.startswith(short)}
    names = name, *(long + name.removeprefix(short) for long, short in renamed.items())
    in_decoder = not f"{name}.".startswith(f"{model.vision_path}.") and name != HEAD
    layout = quantization.layout(Module(names, in_decoder))
    if layout is not None:
        _check(layout, name, piece)
    return layout


def _check(layout: Layout, name: str, piece: Piece) -> None:
    if misfit := layout.misfit(piece.shape):
        raise ConfigurationError(
            f"quantization_config of config.json does not fit {name} of {list(piece.shape)}: {misfit}. Take all files from one "
            f"model."
        )
    columns, width = piece.source[1], piece.shape[1]
    if not layout.can_take(columns, width):
        raise ParallelError(
            f"{name} cannot be split over {tensor_parallel().degree} ranks: inputs {columns.start} to {columns.stop} of {width} "
            f"are no whole groups of its quantised weight."
        )
