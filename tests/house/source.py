"""The library as text: its modules and what they import, read without running any of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "graflow"


@dataclass(frozen=True)
class Module:
    """One module: its dotted name, where it stands (for messages), its text and its syntax tree."""

    name: str
    place: str
    text: str
    is_package: bool
    tree: ast.Module

    @property
    def room(self) -> str | None:
        """The part of the library that it belongs to; None for the top package and what only starts it."""
        parts = self.name.split(".")
        return None if len(parts) == 1 or parts[1] == "__main__" else parts[1]

    def at(self, node: ast.expr | ast.stmt | ast.excepthandler, complaint: str) -> str:
        return f"{self.place}:{node.lineno}: {complaint}"


@dataclass(frozen=True)
class Import:
    """One imported name. ``name`` is None for ``import base``, and X for ``from base import X``."""

    node: ast.expr | ast.stmt
    base: str
    name: str | None = None

    def target(self, modules: Mapping[str, Module]) -> str:
        """The module that is meant: ``from package import X`` means ``package.X`` where that is a module."""
        whole = f"{self.base}.{self.name}"
        return whole if whole in modules else self.base


@cache
def library() -> Mapping[str, Module]:
    """Every module of the library by its name."""
    files = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in (ROOT / LIBRARY).rglob("*.py")}
    return modules_of(files)


def modules_of(files: Mapping[str, str]) -> Mapping[str, Module]:
    """Modules from texts by path, such as ``{"graflow/core/a.py": "import graflow.wire"}``: how checks are tested."""
    modules = (_module(place, text) for place, text in sorted(files.items()))
    return {module.name: module for module in modules}


def _module(place: str, text: str) -> Module:
    parts = Path(place).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(name, place, text, is_package, ast.parse(text, place))


def imports_of(module: Module) -> Iterator[Import]:
    """All imports of a module: at its top, inside functions, under ``TYPE_CHECKING``, and by a literal name."""
    for node in ast.walk(module.tree):
        match node:
            case ast.Import(names=names):
                yield from (Import(node, alias.name) for alias in names)
            case ast.ImportFrom(names=names):
                base = _base_of(node, module)
                yield from (Import(node, base, alias.name) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(node, name)
            case _:
                pass


def _base_of(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    climbed = node.level - 1 if module.is_package else node.level
    parts = module.name.split(".")
    package = parts[: len(parts) - climbed]
    return ".".join([*package, node.module] if node.module else package)
