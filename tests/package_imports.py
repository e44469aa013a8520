"""The imports of a package, read from its source without running it, and what is wrong with them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import, at whatever depth of a module.

    Attributes:
        importer: name of the module, the package's own included.
        imported: name of the module of the package that it is, or as it is written if it is of another one.
        line: where.
        typing_only: behind `if TYPE_CHECKING`.
    """

    importer: str
    imported: str
    line: int
    typing_only: bool = False

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def read_imports(package: Path) -> list[Import]:
    """All imports of all modules of a package, relative ones and constant names given to `import_module` among them."""
    modules = {_module_name(package, path): path for path in sorted(package.rglob("*.py"))}
    found = []
    for name, path in modules.items():
        home = name if path.name == "__init__.py" else name.rpartition(".")[0]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, typing_only in _walk(tree):
            for written in _named(node, home):
                imported = next(filter(modules.__contains__, _prefixes(written)), written)
                found.append(Import(name, imported, node.lineno, typing_only))
    return [each for each in found if each.importer != each.imported]


def upward(imports: Iterable[Import], order: tuple[tuple[str, ...], ...]) -> list[str]:
    """Imports that do not go downwards.

    Args:
        imports: of one package.
        order: rooms (modules and packages right in the package, "" for its own `__init__`) from top to bottom; those that
            share a level do not import each other.
    """
    levels = {room: level for level, rooms in enumerate(order) for room in rooms}
    package = next(iter(imports)).importer.partition(".")[0]
    faults = []
    for each in imports:
        above, below = _room(each.importer), _room(each.imported)
        if each.imported.partition(".")[0] != package or above == below:
            continue
        nowhere = {above, below} - levels.keys()
        if nowhere:
            faults.append(f"{each}: {', '.join(sorted(nowhere))} has no place in the order")
        elif levels[above] >= levels[below]:
            faults.append(f"{each}: {above} is not above {below or 'the package itself'}")
    return faults


def circles(imports: Iterable[Import]) -> list[str]:
    """A shortest circle through each module that is on one; those that hold the same modules once."""
    graph: dict[str, set[str]] = {}
    for each in imports:
        if not each.typing_only:
            graph.setdefault(each.importer, set()).add(each.imported)
    found: dict[frozenset[str], list[str]] = {}
    for circle in filter(None, (_circle(graph, start) for start in sorted(graph))):
        found.setdefault(frozenset(circle), circle)
    return [" -> ".join([*circle, circle[0]]) for circle in found.values()]


def foreign(imports: Iterable[Import], packages: tuple[str, ...], room: str) -> list[str]:
    """Imports of these other packages outside of that room."""
    return [str(each) for each in imports if each.imported.split(".")[0] in packages and _room(each.importer) != room]


def importing(imports: Iterable[Import], room: str, but: tuple[str, ...]) -> list[str]:
    """Imports of a room by others than itself and the modules `but`."""
    package = next(iter(imports)).importer.partition(".")[0]
    within = (each for each in imports if f"{each.imported}.".startswith(f"{package}.{room}."))
    return [str(each) for each in within if _room(each.importer) != room and each.importer not in but]


def _module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def _walk(node: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it is behind `if TYPE_CHECKING`."""
    yield node, typing_only
    for name, value in ast.iter_fields(node):
        children = [child for child in (value if isinstance(value, list) else [value]) if isinstance(child, ast.AST)]
        typing_branch = isinstance(node, ast.If) and name == "body" and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in children:
            yield from _walk(child, typing_only or typing_branch)


def _named(node: ast.AST, home: str) -> list[str]:
    """What a node imports, written out in full; `home` is the package of its module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        parents = home.split(".")
        base = ".".join([*parents[: len(parents) + 1 - node.level], *filter(None, [node.module])])
        return [f"{base if node.level else node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
        return [each.value for each in node.args[:1] if isinstance(each, ast.Constant)]
    return []


def _prefixes(name: str) -> list[str]:
    """The name and the packages that it is in, the longest first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _circle(graph: dict[str, set[str]], start: str) -> list[str]:
    """The modules of a shortest way from `start` back to it, [] if there is none."""
    ways, seen = [[start]], {start}
    for way in ways:
        for following in sorted(graph.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []
