"""Imports of the package point downwards only, and one list names the families."""

import ast
import re
from pathlib import Path

import pytest
from package_imports import Import, circles, foreign, importing, read_imports, upward

import paddlemix_qwenvl
from paddlemix_qwenvl.models.family import families

PACKAGE = Path(paddlemix_qwenvl.__file__).parent
IMPORTS = read_imports(PACKAGE)
# From top to bottom; what shares a level does not import each other.
ORDER = (
    ("",),
    ("cli",),
    ("commands",),
    ("hosts", "server", "static"),
    ("engine",),
    ("models",),
    ("weights",),
    ("layers",),
    ("ops",),
    ("grounding",),
    ("media",),
    ("hub", "parallel", "threads"),
    ("device", "environment", "fields", "files"),
    ("dtypes", "errors", "process", "progress", "text"),
)
HOSTS = ("paddlenlp", "paddleformers", "paddlemix", "ppdiffusers")
NAMES_OF_FAMILIES = {
    name for family in families() for name in (family.name, *(name for _, name in family.classes.values()))
}
# A family's own folder, the list, and PaddleNLP's kind of the tokenizers, which are of two libraries.
MAY_NAME_FAMILIES = (
    "models/family.py",
    "hosts/paddlenlp_tokenizers.py",
    *(f"models/{each.name}/" for each in families()),
)


def test_imports_point_downwards():
    assert upward(IMPORTS, ORDER) == []


def test_no_modules_import_each_other():
    assert circles(IMPORTS) == []


def test_hosts_are_imported_by_hosts_alone():
    assert foreign(IMPORTS, HOSTS, "hosts") == []


def test_nothing_below_knows_of_hosts():
    assert importing(IMPORTS, "hosts", but=("paddlemix_qwenvl",)) == []


def named(source: str, names: set[str]) -> list[str]:
    """Those of `names` that are in a module's identifiers, imports or texts, with their lines; what only explains may name them."""
    tree = ast.parse(source)
    explaining = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()
    for node in (node for node in ast.walk(tree) if id(node) not in explaining):
        for _, value in ast.iter_fields(node):
            for text in value if isinstance(value, list) else [value]:
                words = re.findall(r"\w+", text) if isinstance(text, str) else []
                found |= {f"line {getattr(node, 'lineno', '?')}: {word}" for word in names.intersection(words)}
    return sorted(found)


def test_one_list_names_the_families():
    files = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    others = {name: path for name, path in files.items() if not name.startswith(MAY_NAME_FAMILIES)}
    found = {name: named(path.read_text(encoding="utf-8"), NAMES_OF_FAMILIES) for name, path in others.items()}
    assert {name: words for name, words in found.items() if words} == {}


# ---- what the tests above find


def package(folder: Path, modules: dict[str, str]) -> list[Import]:
    """Imports of a package `house` with these modules: path without `.py` -> source."""
    for name, source in {"__init__": "", **modules}.items():
        path = folder / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(source)
    return read_imports(folder / "house")


def test_every_way_to_import_is_read(tmp_path):
    source = """
import os.path, house.low.deep as deep
from house import low
from house.low import deep, name
from . import other
from .. import low
from ..low.deep import name
def function():
    import json
    importlib.import_module("house.low")
if TYPE_CHECKING:
    import av
else:
    import sys
"""
    imports = package(tmp_path, {"low/deep": "", "high/other": "", "high/module": source})
    found = [f"{each.imported} {each.line}" for each in imports if not each.typing_only]
    assert found[:5] == ["os.path 2", "house.low.deep 2", "house.low 3", "house.low.deep 4", "house.low 4"]
    assert found[5:] == ["house.high.other 5", "house.low 6", "house.low.deep 7", "json 9", "house.low 10", "sys 14"]
    assert [f"{each.imported} {each.line}" for each in imports if each.typing_only] == ["av 12"]
    assert str(imports[0]) == "house.high.module, line 2, imports os.path"


ORDER_OF_TREES = (("", "cli"), ("left", "right"), ("low",))


@pytest.mark.parametrize(
    ("modules", "fault"),
    [
        (
            {"cli": "import house.left.a", "left/a": "import house.low, os", "left/b": "from . import a", "low": ""},
            None,
        ),
        (
            {"low": "from house.left import a", "left/a": ""},
            "house.low, line 1, imports house.left.a: low is not above left",
        ),
        (
            {"low": "def f():\n  from . import cli", "cli": ""},
            "house.low, line 2, imports house.cli: low is not above cli",
        ),
        (
            {"left/a": "import house.right", "right/b": ""},
            "house.left.a, line 1, imports house.right: left is not above right",
        ),
        ({"low": "from house import VERSION"}, "house.low, line 1, imports house: low is not above the package itself"),
        (
            {"cli": "import house.attic", "attic": ""},
            "house.cli, line 1, imports house.attic: attic has no place in the order",
        ),
    ],
    ids=["downwards", "upwards", "in a function", "sideways", "the package itself", "a new room"],
)
def test_arrows_upwards(tmp_path, modules, fault):
    assert upward(package(tmp_path, modules), ORDER_OF_TREES) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ({"a": "import house.b", "b": "import house.c", "c": ""}, []),
        ({"a": "import house.b", "b": "import house.a"}, ["house.a -> house.b -> house.a"]),
        ({"a": "import house.b", "b": "def f():\n  from .a import x"}, ["house.a -> house.b -> house.a"]),
        ({"a": "import house.b", "b": "if typing.TYPE_CHECKING:\n  import house.a"}, []),
        (
            {"a": "import house.b", "b": "import house.c", "c": "import house.a", "d": "import house.a"},
            ["house.a -> house.b -> house.c -> house.a"],
        ),
        (
            {"low/a": "from house import low", "low/__init__": "from .a import x"},
            ["house.low -> house.low.a -> house.low"],
        ),
    ],
    ids=["none", "two", "in a function", "for types alone", "three", "a package and its module"],
)
def test_circles(tmp_path, modules, found):
    assert circles(package(tmp_path, modules)) == found


def test_packages_that_one_room_alone_may_import(tmp_path):
    modules = {
        "hosts/a": "import paddlenlp",
        "left": "from paddlenlp.transformers import x\nimport paddlenlp_ops",
        "cli": "",
    }
    assert foreign(package(tmp_path, modules), ("paddlenlp",), "hosts") == [
        "house.left, line 1, imports paddlenlp.transformers.x"
    ]


def test_a_room_that_nothing_imports(tmp_path):
    modules = {
        "hosts/a": "from . import b",
        "hosts/b": "",
        "cli": "import house.hosts.a",
        "left": "from house import hosts",
    }
    found = importing(package(tmp_path, modules), "hosts", but=("house.cli",))
    assert found == ["house.left, line 1, imports house.hosts"]


def test_names_of_families():
    source = '''
"""The docstring may say toy_vl."""
from house.models.toy_vl import config  # a comment, too: ToyConfig
def f(kind: ToyConfig, other=my_toy_vl):
    """And ToyConfig."""
    return {"kind": "toy_vl-img2txt"}, kind.ToyConfig, "toy_vl_2"
'''
    assert named(source, {"toy_vl", "ToyConfig"}) == [
        "line 3: toy_vl",
        "line 4: ToyConfig",
        "line 6: ToyConfig",
        "line 6: toy_vl",
    ]
