"""The README's Python, which asks PaddleNLP's Auto classes."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_python(hub_folder, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    monkeypatch.chdir(ROOT)
    exec(code.replace("Qwen/Qwen2.5-VL-3B-Instruct", str(hub_folder)).replace("=128", "=4"), {})
    assert len(capsys.readouterr().out) > 1
