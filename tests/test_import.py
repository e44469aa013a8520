"""`import paddlemix_qwenvl` is cheap, and its public names are there when they are first used."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import paddlemix_qwenvl
from paddlemix_qwenvl.models.family import families
from paddlemix_qwenvl.models.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent


def loaded_by(code: str) -> set[str]:
    """The top-level packages a new process has loaded after `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_but_the_standard_library():
    ours = loaded_by("import paddlemix_qwenvl") - loaded_by("")
    assert ours - set(sys.stdlib_module_names) == {"paddlemix_qwenvl"}


def test_errors_and_dir_load_nothing_either():
    code = "import paddlemix_qwenvl, paddlemix_qwenvl.errors\ndir(paddlemix_qwenvl)"
    assert not loaded_by(code) & {"paddle", "paddlenlp", "paddlemix", "numpy", "PIL"}


def test_every_public_name_is_the_hosts_kind_of_its_core_class():
    names = {name: family.load(kind) for family in families() for kind, (_, name) in family.classes.items()}
    assert set(paddlemix_qwenvl.__all__) == {*names, "process_vision_info"} <= set(dir(paddlemix_qwenvl))
    for name, core in names.items():
        value = getattr(paddlemix_qwenvl, name)
        assert value.__name__ == name and value is getattr(paddlemix_qwenvl, name)
        assert issubclass(value, core.shared if issubclass(core, Tokenizer) else core)
        assert getattr(importlib.import_module(value.__module__), name) is value  # pickle finds it there


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'paddlemix_qwenvl' has no attribute 'Qwen9_VLConfig'"):
        _ = paddlemix_qwenvl.Qwen9_VLConfig


def test_importing_changes_nothing_else_in_the_process():
    """Neither the environment nor the C library's allocator, which would then never map a large block of its own."""
    code = "import os; before = dict(os.environ)\nimport paddlemix_qwenvl; assert os.environ == before\n"
    code += "import re, numpy; x = numpy.ones(1 << 24); at = x.ctypes.data\n"
    code += "heap = re.search('([0-9a-f]+)-([0-9a-f]+) .*heap', open('/proc/self/maps').read())\n"
    code += "print(int(heap[1], 16) <= at < int(heap[2], 16))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
