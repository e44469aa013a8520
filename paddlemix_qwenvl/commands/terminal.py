"""What a command says on the terminal: the answer on standard output, errors in a line, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator

import typer

from paddlemix_qwenvl.errors import MissingFontWarning, QwenVLError
from paddlemix_qwenvl.process import collection_paused, keep_freed_memory
from paddlemix_qwenvl.text import repair


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What this package raises on purpose, and files that cannot be had, end the command with the message alone."""
    try:
        yield
    except (QwenVLError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


def quiet() -> None:
    """Keep what Paddle and PaddleNLP say besides errors off the terminal, where the answer goes; the process is ours."""
    keep_freed_memory()
    os.environ.setdefault("GLOG_minloglevel", "2")  # of Paddle's C++ part
    logging.getLogger("PaddleNLP").addFilter(_is_error)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", MissingFontWarning)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def import_paddle() -> None:
    """Import it without its warning of a user's OMP_NUM_THREADS, and have SIGTERM end the process without a trace of its C++.

    What the package logs is told on standard error: importing Paddle gives all loggers a handler that writes to what is held back.
    """
    if not logging.root.handlers:
        ours = logging.getLogger(__package__.partition(".")[0])
        ours.addHandler(logging.StreamHandler())
        ours.propagate = False
    with contextlib.redirect_stderr(io.StringIO()), collection_paused():
        import paddle  # noqa: F401
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C is noted: what this gives tells whether it was pressed. Pressed once more it ends the program."""
    pressed = []

    def note(*_) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def say(text: str) -> None:
    """Print what is no answer."""
    typer.echo(repair(text), err=True)


def stream(text: str) -> None:
    """Print a piece of an answer."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_json(report: dict) -> None:
    """One line, which can be encoded whatever a model or a user wrote."""
    typer.echo(repair(json.dumps(report, ensure_ascii=False)))


def print_report(report: dict, as_json: bool, lines: Iterable[str] = ()) -> None:
    """What a command found: as JSON, or after an answer that was streamed these lines and the figures of a "benchmark"."""
    if as_json:
        print_json(report)
        return
    typer.echo()
    for line in lines:
        typer.echo(line)
    for name, value in report.get("benchmark", {}).items():
        typer.echo(f"{name:22} {value:.4g}")
