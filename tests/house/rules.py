"""The house rules, each a function from modules to complaints. An empty list is a house in order."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from tests.house.source import LIBRARY, Module, imports_of

Modules = Mapping[str, Module]

ROOMS = ("errors", "core", "draw", "wire", "observe", "backends", "handlers", "worker", "engine", "testing", "cli")
"""From the lowest to the highest: a room imports from lower ones only."""

OUTSIDE_WORLD = frozenset({"anyio", "asyncio", "concurrent", "multiprocessing", "select", "selectors", "socket", "ssl", "subprocess"})
"""What ``core`` may not touch: it is the language and the pure model, and has neither an event loop nor I/O."""

BROAD = frozenset({"Exception", "BaseException"})
LONGEST = 400


def rooms(modules: Modules) -> list[str]:
    """A module belongs to a room and imports nothing from a higher one."""
    unknown = [f"{module.place}: {module.room} is no room" for module in _inside(modules) if module.room not in ROOMS]
    return unknown or [
        module.at(found.node, f"{module.room} imports {target}, which is higher")
        for module in _inside(modules)
        for found in imports_of(module)
        if (target := found.target(modules)) in modules
        and (room := modules[target].room) is not None
        and ROOMS.index(room) > ROOMS.index(module.room or "")
    ]


def top_package(modules: Modules) -> list[str]:
    """Nobody inside imports the public names: a module says which module it depends on."""
    return [
        module.at(found.node, f"imports the top package {LIBRARY}")
        for module in _inside(modules)
        for found in imports_of(module)
        if found.base == LIBRARY
    ]


def circles(modules: Modules) -> list[str]:
    """No circle of imports, wherever in the module they stand."""
    graph = {module.name: {found.target(modules) for found in imports_of(module)} & modules.keys() for module in modules.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [" -> ".join(reversed(error.args[1]))]
    return []


def pure_core(modules: Modules) -> list[str]:
    """``core`` imports neither an event loop nor anything that does I/O."""
    return [
        module.at(found.node, f"core imports {found.base}")
        for module in _inside(modules)
        if module.room == "core"
        for found in imports_of(module)
        if found.base.split(".")[0] in OUTSIDE_WORLD
    ]


def undeclared(modules: Modules, declared: frozenset[str]) -> list[str]:
    """What is imported from elsewhere is declared: ``declared`` holds the top packages that may be."""
    return [
        module.at(found.node, f"{found.base} is no declared dependency")
        for module in modules.values()
        for found in imports_of(module)
        if found.base.split(".")[0] not in declared
    ]


def long_files(modules: Modules) -> list[str]:
    """A file does one thing, and has room to do it in."""
    lengths = ((module, len(module.text.splitlines())) for module in modules.values())
    return [f"{module.place}: {length} lines, over {LONGEST}" for module, length in lengths if length > LONGEST]


def broad_excepts(modules: Modules) -> list[str]:
    """Whoever catches everything raises again as the last thing: an error is never swallowed."""
    return [
        module.at(node, complaint)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if (complaint := _swallows(node)) and isinstance(node, ast.ExceptHandler | ast.Call)
    ]


def prints(modules: Modules) -> list[str]:
    """Only the command line prints: a library logs."""
    return [
        module.at(node, "print in the library")
        for module in modules.values()
        if module.room != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]


def undocumented(modules: Modules) -> list[str]:
    """Every module says in its first line what it is for."""
    return [f"{module.place}: no docstring" for module in modules.values() if not ast.get_docstring(module.tree)]


def _inside(modules: Modules) -> list[Module]:
    """The modules that stand in a room, which the top package does not."""
    return [module for module in modules.values() if module.room is not None]


def _swallows(node: ast.AST) -> str | None:
    match node:
        case ast.ExceptHandler(type=None | ast.expr() as caught, body=[*_, last]) if not isinstance(last, ast.Raise):
            return "a broad except that does not end by raising" if caught is None or _broad(caught) else None
        case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args) if any(
            _broad(argument) for argument in args
        ):
            return "a broad suppress"
        case _:
            return None


def _broad(caught: ast.expr) -> bool:
    match caught:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in BROAD
        case ast.Tuple(elts=parts):
            return any(_broad(part) for part in parts)
        case _:
            return False
