"""What the READMEs show of the server, run as it stands there but for the address: curl, and Python for OpenAI's package."""

import json
import re
import shlex
import subprocess
import sys

import pytest
from served import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"http://(?:localhost|127\.0\.0\.1):\d+")
READMES = ("README.md", "README_zh-CN.md")


def blocks(language: str) -> list[str]:
    """What stands in blocks of a language in the READMEs and in the server's own page."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in READMES]
    return [block[2] for text in texts for block in BLOCK.finditer(text) if block[1] == language]


def curl_commands() -> list[str]:
    """The commands that begin with curl, however many lines each has."""
    found, command = [], ""
    for line in "".join(blocks("sh")).splitlines():
        if not command and not line.startswith("curl "):
            continue
        command += line + "\n"
        try:
            shlex.split(command)
        except ValueError:  # a quotation goes on
            continue
        if not line.endswith("\\"):
            found.append(command)
            command = ""
    return found


CURL = curl_commands()
PYTHON = [block for block in blocks("python") if "OpenAI(" in block]


def here(text: str, address: str) -> str:
    """With the address of the test's server."""
    changed, count = ADDRESS.subn(address, text)
    assert count, f"no address of the server in {text}"
    return changed


def test_both_readmes_show_clients():
    assert len(CURL) >= 2 and len(CURL) % 2 == 0
    assert len(PYTHON) >= 2 and len(PYTHON) % 2 == 0


@pytest.mark.parametrize("command", CURL)
def test_a_line_for_curl(server, command):
    done = subprocess.run(
        ["sh", "-c", here(command, server.address)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    events = [line.removeprefix("data: ") for line in done.stdout.splitlines() if line.startswith("data: ")]
    assert not events or events.pop() == "[DONE]"
    for answer in map(json.loads, events or [done.stdout]):
        assert isinstance(answer, dict) and "error" not in answer and "detail" not in answer


@pytest.mark.parametrize("program", PYTHON)
def test_python_for_the_package(server, program):
    command = [sys.executable, "-c", here(program, server.address)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
