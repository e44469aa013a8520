"""`paddlemix-qwenvl quantize`: a model's folder with weights in fewer bits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from paddlemix_qwenvl.commands import options, terminal


@options.grouped
def quantize(
    model_path: options.ModelPath = "demo",
    method: Annotated[
        options.Method,
        typer.Option("--method", help="awq, rtn: 4 bits, in groups; int8, fp8: 8 bits, a scale an output"),
    ] = options.Method.rtn,
    output_path: Annotated[Path, typer.Option("--output_path", help="folder to write, or to go on with")] = Path(
        "quantized"
    ),
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="JSON lines of conversations, or a folder of pictures and texts; awq goes by it"
        ),
    ] = None,
    group_size: Annotated[
        int | None,
        typer.Option(
            "--group_size", help="inputs that share a scale, of awq and rtn (default: 128, less in a narrow model)"
        ),
    ] = None,
    device: options.Device = None,
    *,
    where: options.Where,
    allow_pickle: options.AllowPickle = False,
) -> None:
    """Write a model with weights in fewer bits, as transformers and vLLM read it, and a report of what that loses."""
    terminal.quiet()
    terminal.import_paddle()
    with terminal.plain_errors():
        from paddlemix_qwenvl.device import use_device
        from paddlemix_qwenvl.quantization.making import quantize

        use_device(device)
        given = options.given(allow_pickle=allow_pickle, **where.where())
        with _Stages() as stages:
            report = quantize(model_path, output_path, method.value, calibration, group_size, stages, **given)
    for line in report.lines():
        typer.echo(line)
    terminal.say(f"wrote {output_path}")


class _Stages:
    """What the work is at: on a terminal a bar with the time that is left, elsewhere a line a stage."""

    def __init__(self):
        self._name, self._bar = "", None

    def __enter__(self) -> _Stages:
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def says(self, line: str) -> None:
        """Another stage begins."""
        self._close()
        self._name = line
        if not sys.stderr.isatty():
            terminal.say(line)

    def progress(self, done: int, total: int) -> None:
        """So much of it is done."""
        if not sys.stderr.isatty():
            return
        from tqdm import tqdm

        if self._bar is None:
            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left"
            self._bar = tqdm(total=total, desc=self._name, bar_format=form)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
