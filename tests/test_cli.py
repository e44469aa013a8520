"""The command line as a whole, and what the READMEs say of it."""

import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from paddlemix_qwenvl import cli

ROOT = Path(__file__).parents[1]


def test_the_command_line_imports_nothing_but_typer():
    """Neither hosts nor NumPy, Pillow, pydantic, ...: a command imports what it needs once it is called."""
    code = "import sys, typer\nbefore = {*sys.modules}\nimport paddlemix_qwenvl.cli\nprint(*{*sys.modules} - before)"
    done = subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True, text=True)
    new = {name.partition(".")[0] for name in done.stdout.split()} - set(sys.stdlib_module_names)
    assert new == {"paddlemix_qwenvl"}


def test_the_commands():
    assert [command.callback.__name__ for command in cli.app.registered_commands] == [
        "infer",
        "chat",
        "export",
        "predict",
        "quantize",
        "serve",
        "plan",
        "doctor",
    ]
    for command in cli.app.registered_commands:
        shown = CliRunner().invoke(cli.app, [command.callback.__name__, "--help"])
        assert shown.exit_code == 0 and command.callback.__doc__.split(";")[0][:40] in shown.stdout


def code_blocks(file, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_both_readmes_say_the_same():
    english, chinese = "README.md", "README_zh-CN.md"
    assert code_blocks(english, "python") == code_blocks(chinese, "python")
    without_comments = [re.sub(r" +#.*", "", code) for code in code_blocks(english, "sh")]
    assert without_comments == [re.sub(r" +#.*", "", code) for code in code_blocks(chinese, "sh")]
    for file in (english, chinese):
        text = (ROOT / file).read_text(encoding="utf-8")
        named = set(re.findall(r"(?<![\w/])((?:shell|examples|benchmarks|tests|\.ci)/[\w./]+\w)(?![\w{])", text))
        assert len(named) > 5 and not [path for path in named if not (ROOT / path).exists()]
        flags = set(re.findall(r"`(--\w+)", text)) - {"--json"}
        sources = [*ROOT.glob("paddlemix_qwenvl/commands/*.py"), *ROOT.glob("examples/*/*.py")]
        assert flags <= {flag for source in sources for flag in re.findall(r'"(--\w+)"', source.read_text())}
