"""`paddlemix-qwenvl predict`, and the example scripts' commands like it: no model is loaded, only static graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options
from paddlemix_qwenvl.commands.asking import ask


@options.grouped
def predict(
    model_path: Annotated[str, typer.Option("--model_path", help="folder that `export` wrote")] = "export",
    *,
    asking: options.Asking,
    running: options.Running,
) -> None:
    """Answer a question about pictures and videos with exported graphs."""
    _predict(asking, running, model_path)


def predict_command(family: str) -> Callable[..., None]:
    """`run_static_predict.py` of a family."""

    @options.grouped
    def run_static_predict(
        first_model_path: Annotated[str, typer.Option("--first_model_path", help="export of the vision part")] = (
            "checkpoints/encode_image/vision"
        ),
        second_model_path: Annotated[str, typer.Option("--second_model_path", help="export of the language part")] = (
            "checkpoints/encode_text"
        ),
        model_name_or_path: Annotated[
            str | None,
            typer.Option("--model_name_or_path", help="the model that was exported, to make sure that it is this"),
        ] = None,
        *,
        asking: options.Asking,
        running: options.Running,
    ) -> None:
        """Answer a question about pictures and videos with exported graphs, without PaddleNLP."""
        graphs = {"vision_folder": first_model_path, "family": family, "model": model_name_or_path}
        _predict(asking, running, second_model_path, **graphs)

    return run_static_predict


def _predict(asking: options.Asking, running: options.Running, folder: str, **graphs) -> None:
    """Ask the export that the other arguments name."""

    def load(on_progress):
        from paddlemix_qwenvl.static.loading import load_export

        return load_export(folder, on_progress=on_progress, **running.given(), **graphs)

    ask(load, asking, running.device)
