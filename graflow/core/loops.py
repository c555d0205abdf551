"""Which edges of a scope close a cycle: the loops of a graph, their headers and their back edges (rule 5).

The answer depends only on the graph and on the order in which its edges were drawn, never on a traversal, so every process that
compiles the same graph finds the same loops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Arc = tuple[int, int, int]
"""(edge number, source node, target node)"""


class Loop(msgspec.Struct, frozen=True):
    """A maximal strongly connected set of nodes, entered through ``header``.

    Attributes:
        header: the node that every round begins with.
        body: all nodes of the loop, the header included.
        back: numbers of the edges inside the loop that lead into the header.
        leaving: numbers of the edges that lead out of the body and are no back edge of an outer loop.
        exits: those of ``leaving`` whose outermost left loop is this one; it decides them when it has ended (rule 8).
        depth: 0 for a loop inside no other.
        scope: index of the group that the loop is written in, -1 for the run.
    """

    header: int
    body: frozenset[int]
    back: tuple[int, ...]
    leaving: tuple[int, ...]
    exits: tuple[int, ...]
    depth: int
    scope: int


class _Found(msgspec.Struct):
    header: int
    body: frozenset[int]
    back: tuple[int, ...]
    depth: int


def find_loops(nodes: Sequence[int], arcs: Sequence[Arc], scope: int) -> list[Loop]:
    """The loops among ``nodes`` (one scope), outer before inner. ``arcs`` are in drawing order; all of them lie in the scope.

    Back edges are found level by level: those of an outermost loop are taken away, and what is still cyclic inside it is an inner loop.
    """
    if all(source < target for _, source, target in arcs):
        return []
    found: list[_Found] = []
    work: list[tuple[Sequence[int], Sequence[Arc], int]] = [(nodes, arcs, 0)]
    while work:
        inside, around_them, depth = work.pop()
        for body, entering in _arcs_into(strongly_connected(inside, around_them), around_them):
            loop = _loop_of(body, entering, depth)
            found.append(loop)
            taken = set(loop.back)
            work.append((sorted(body - {loop.header}), [arc for arc in entering if arc[0] not in taken], depth + 1))
    found.sort(key=lambda loop: (loop.depth, min(loop.body)))
    back_edges = {edge for loop in found for edge in loop.back}
    around: dict[int, list[int]] = {}
    for number, loop in enumerate(found):
        for node in loop.body:
            around.setdefault(node, []).append(number)
    leaving: list[list[int]] = [[] for _ in found]
    exits: list[list[int]] = [[] for _ in found]
    for edge, source, target in arcs:
        if edge in back_edges:
            continue
        left = [number for number in around.get(source, ()) if target not in found[number].body]
        for number in left:
            leaving[number].append(edge)
        if left:
            exits[min(left, key=lambda number: found[number].depth)].append(edge)
    return [
        Loop(loop.header, loop.body, loop.back, tuple(leaving[number]), tuple(exits[number]), loop.depth, scope)
        for number, loop in enumerate(found)
    ]


def _arcs_into(bodies: Sequence[frozenset[int]], arcs: Iterable[Arc]) -> Iterator[tuple[frozenset[int], list[Arc]]]:
    """Each body with the arcs that lead into it, from inside or outside."""
    place = {node: number for number, body in enumerate(bodies) for node in body}
    entering: list[list[Arc]] = [[] for _ in bodies]
    for arc in arcs:
        if arc[2] in place:
            entering[place[arc[2]]].append(arc)
    return zip(bodies, entering, strict=True)


def _loop_of(body: frozenset[int], entering: Sequence[Arc], depth: int) -> _Found:
    """Its header is its only entry; with several entries, or none, the one that is first the source of an edge inside (5)."""
    entries = {target for _, source, target in entering if source not in body} or body
    header = next(source for _, source, _ in entering if source in entries and source in body)
    back = tuple(edge for edge, source, target in entering if target == header and source in body)
    return _Found(header, body, back, depth)


def strongly_connected(nodes: Iterable[int], arcs: Iterable[Arc]) -> list[frozenset[int]]:
    """Components that hold a cycle, ordered by their smallest node.

    Tarjan 1972, with its recursion written out as a stack: a chain of 100 000 tasks must not meet Python's recursion limit.
    """
    successors: dict[int, list[int]] = {node: [] for node in nodes}
    selfish: set[int] = set()
    for _, source, target in arcs:
        if source in successors and target in successors:
            successors[source].append(target)
            if source == target:
                selfish.add(source)
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    path: list[int] = []
    on_path: set[int] = set()
    components: list[frozenset[int]] = []
    for root in successors:
        if root in number:
            continue
        work = [(root, iter(successors[root]))]
        number[root] = low[root] = len(number)
        path.append(root)
        on_path.add(root)
        while work:
            node, following = work[-1]
            for target in following:
                if target not in number:
                    number[target] = low[target] = len(number)
                    path.append(target)
                    on_path.add(target)
                    work.append((target, iter(successors[target])))
                    break
                if target in on_path:
                    low[node] = min(low[node], number[target])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == number[node]:
                    component = {path.pop()}
                    while node not in component:
                        component.add(path.pop())
                    on_path -= component
                    if len(component) > 1 or node in selfish:
                        components.append(frozenset(component))
    return sorted(components, key=min)
