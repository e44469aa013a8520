"""`paddlemix-qwenvl predict`, and the example scripts' commands like it: no model is loaded, only static graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal
from paddlemix_qwenvl.text import repair


@options.grouped
def predict(
    model_path: Annotated[str, typer.Option("--model_path", help="folder that `export` wrote")] = "export",
    *,
    asking: options.Asking,
    device: options.Device = None,
) -> None:
    """Answer a question about one or more images with exported graphs."""
    _predict({"folder": model_path, "device": device}, asking)


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
        device: options.Device = None,
    ) -> None:
        """Answer a question about one or more images with exported graphs, without PaddleNLP."""
        graphs = {
            "folder": second_model_path,
            "vision_folder": first_model_path,
            "family": family,
            "model": model_name_or_path,
            "device": device,
        }
        _predict(graphs, asking)

    return run_static_predict


def _predict(graphs: dict, asking: options.Asking) -> None:
    """Ask the `Predictor` that the arguments `graphs` make."""
    terminal.quiet()
    with terminal.plain_errors():
        from paddlemix_qwenvl.engine import timings
        from paddlemix_qwenvl.engine.streaming import TextStreamer
        from paddlemix_qwenvl.models.conversations import question_about
        from paddlemix_qwenvl.models.processor import AnswerDecoder
        from paddlemix_qwenvl.parallel import start_ranks
        from paddlemix_qwenvl.static.runner import Predictor

        rank = start_ranks(None, graphs["device"])
        predictor = Predictor(**graphs)
        messages = [question_about(repair(asking.question), asking.image_file or ())]
        streamer = None if asking.as_json or rank else TextStreamer(AnswerDecoder(predictor.processor))
        prediction = predictor.chat(messages, streamer and streamer.put, **asking.settings())
        if streamer:
            streamer.end()
        report = {
            "text": prediction.texts[0],
            "token_ids": prediction.token_ids[0],
            "prompt_tokens": prediction.prompt_tokens[0],
            "seconds": prediction.seconds,
        }
        if asking.benchmark:
            runs = [predictor.chat(messages, **asking.settings()).seconds for _ in range(5)]
            report["benchmark"] = timings.summary(runs, len(report["token_ids"]))
    if not rank:
        terminal.print_report(report, asking.as_json)
