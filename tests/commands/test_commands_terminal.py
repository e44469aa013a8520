"""What commands say on the terminal."""

import logging
import subprocess
import sys

import pytest
import typer

from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.errors import PromptError


def test_json_can_be_encoded(capsys):
    terminal.print_json({"text": "a\ud83d\udc31 b\udc31"})
    assert capsys.readouterr().out == '{"text": "a🐱 b\ufffd"}\n'


@pytest.mark.parametrize("error", [PromptError("what was given"), FileNotFoundError(2, "No such file", "a.png")])
def test_errors_are_a_line_and_a_status(capsys, error):
    with pytest.raises(typer.Exit) as ended, terminal.plain_errors():
        raise error
    assert ended.value.exit_code == 1 and capsys.readouterr().err == f"error: {error}\n"
    with pytest.raises(ZeroDivisionError), terminal.plain_errors():  # a fault of our own keeps its traceback
        _ = 1 / 0


def test_a_report(capsys):
    report = {"text": "said", "benchmark": {"total": 1.23456}}
    terminal.print_report(report, as_json=False, lines=["a.png: star"])
    assert capsys.readouterr().out == "\na.png: star\ntotal                  1.235\n"
    terminal.print_report(report, as_json=True, lines=["a.png: star"])
    assert capsys.readouterr().out == '{"text": "said", "benchmark": {"total": 1.23456}}\n'


def test_what_the_package_logs_is_told(capsys, monkeypatch):
    ours = logging.getLogger("paddlemix_qwenvl")
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(ours, "propagate", True)
    monkeypatch.setattr(logging.root, "handlers", [])
    terminal.import_paddle()
    logging.getLogger("paddlemix_qwenvl.models").warning("kept")
    assert capsys.readouterr().err == "kept\n"


def test_a_quiet_process_says_errors_alone():
    """Of a host's logger that is made later, as PaddleNLP makes its own, too; and imports nothing."""
    code = """
import logging, sys, warnings
from paddlemix_qwenvl.commands import terminal
from paddlemix_qwenvl.errors import MissingFontWarning
terminal.quiet()
logger = logging.getLogger("PaddleNLP")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.setLevel("DEBUG")
logger.warning("a warning"); logger.error("an error")
warnings.warn("another")
warnings.warn("no font", MissingFontWarning)
assert not {"paddle", "paddlenlp", "numpy"} & {*sys.modules}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "an error\n" and "no font" in done.stderr and "another" not in done.stderr
