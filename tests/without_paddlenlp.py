"""Which tests need PaddleNLP: those in `hosts/`, and those that import it, or our side of it, or a test module that does.

Where it is not installed these are not collected, and the end of the test run names them.
"""

import ast
from importlib.util import find_spec
from pathlib import Path

TESTS = Path(__file__).parent
NEEDING = ("paddlenlp", "paddlemix_qwenvl.hosts.paddlenlp")


def _needs_it(file: Path) -> bool:
    nodes = [*ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    named = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    if "hosts" in file.relative_to(TESTS).parts or any(name.startswith(NEEDING) for name in named):
        return True
    beside = (TESTS / name.replace(".", "/") for name in named)
    return any(path.with_suffix(".py").is_file() and _needs_it(path.with_suffix(".py")) for path in beside)


LEFT_OUT = [] if find_spec("paddlenlp") else sorted(filter(_needs_it, TESTS.rglob("test_*.py")))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """True for what is left out; pytest's own rules go for the rest."""
    return True if collection_path in LEFT_OUT else None


def pytest_terminal_summary(terminalreporter) -> None:
    """Name what was left out."""
    for file in LEFT_OUT:
        terminalreporter.write_line(f"left out: tests/{file.relative_to(TESTS)}, because PaddleNLP is not installed")
