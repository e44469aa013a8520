"""`paddlemix-qwenvl export`, and the example scripts' commands that export a part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.errors import ConfigurationError
from paddlemix_qwenvl.static.manifest import LANGUAGE, PARTS, VISION, Manifest


@options.grouped
def export(
    model_path: options.ModelPath = "demo",
    output_path: Annotated[Path, typer.Option("--output_path", help="folder to write")] = Path("export"),
    *,
    how: options.Exporting,
) -> None:
    """Write static graphs of a model, with all that `predict` needs, into a folder."""
    _export(model_path, output_path, PARTS, how)


@options.grouped
def export_image_encoder(
    model_name_or_path: options.ModelName = "demo",
    save_path: Annotated[Path, typer.Option("--save_path", help="folder to write")] = Path(
        "checkpoints/encode_image/vision"
    ),
    *,
    how: options.Exporting,
) -> None:
    """Write the vision part of a model as a static graph."""
    _export(model_name_or_path, save_path, (VISION,), how)


@options.grouped
def export_language_model(
    model_name_or_path: options.ModelName = "demo",
    output_path: Annotated[Path, typer.Option("--output_path", help="folder to write")] = Path(
        "checkpoints/encode_text"
    ),
    model_prefix: Annotated[
        str,
        typer.Option("--model_prefix", help="name of a folder in --output_path to write (default: that one itself)"),
    ] = "",
    model_type: Annotated[
        str | None,
        typer.Option("--model_type", help="what the model must be: the model_type of its config.json and -img2txt"),
    ] = None,
    inference_model: Annotated[
        bool,
        typer.Option("--inference_model", help="say so where no compiled operation is built to put into the graph"),
    ] = False,
    *,
    how: options.Exporting,
) -> None:
    """Write the language part of a model as a static graph."""
    with terminal.plain_errors():
        if model_prefix == ".." or Path(model_prefix).name != model_prefix:
            raise ConfigurationError(
                f"--model_prefix is {model_prefix!r}: give one name, and the folder that it lies in as --output_path."
            )
    manifest = _export(model_name_or_path, output_path / model_prefix, (LANGUAGE,), how, model_type)
    if inference_model and not manifest.compiled_ops:
        typer.echo("the graph is of plain Paddle: no compiled operation is built (cd external_ops)", err=True)


def _export(
    name: str, folder: Path, parts: tuple[str, ...], how: options.Exporting, model_type: str | None = None
) -> Manifest:
    terminal.quiet()
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.device import use_device
        from paddlemix_qwenvl.parallel import start_ranks
        from paddlemix_qwenvl.static import export as exporter

        use_device(how.device)
        start_ranks(None, how.device)
        typer.echo(f"loading {name}", err=True)
        dtype = how.dtype and how.dtype.value
        model, processor = exporter.load(name, dtype, model_type, **how.where())
        return exporter.export(model, processor, folder, parts, name, say=lambda line: typer.echo(line, err=True))
