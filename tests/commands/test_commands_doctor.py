"""The command `doctor`: its report and its exit status."""

import json

import pytest
from typer.testing import CliRunner

from paddlemix_qwenvl import cli
from paddlemix_qwenvl.commands import machine_doctor
from paddlemix_qwenvl.commands.finding import Finding


@pytest.mark.parametrize(("fatal", "code", "verdict"), [(False, 0, "can run"), (True, 1, "would fail")])
def test_doctor(monkeypatch, fatal, code, verdict):
    findings = [Finding("Python", "3.11"), Finding("paddle", "2.6", "install 3.3.1", fatal=fatal)]
    monkeypatch.setattr(machine_doctor, "diagnose", lambda: findings)
    result = CliRunner().invoke(cli.app, ["doctor"])
    assert (result.exit_code, verdict in result.stdout, "install 3.3.1" in result.stdout) == (code, True, True)
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    report = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, report["ok"]) == (code, not fatal)
    assert report["findings"][1] == {"subject": "paddle", "found": "2.6", "remedy": "install 3.3.1", "fatal": fatal}
