"""What one step may know of its run, read where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.core.board import FIRE, HANDLED
from graflow.core.calls import MISSING, leads
from graflow.core.plan import RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from graflow.backends.memory.run import MemoryRun
    from graflow.core.outcome import Iteration, TaskError


class MemoryStepView:
    """A :class:`~graflow.core.calls.StepView` over a run in this process."""

    __slots__ = ("_node", "_run")

    def __init__(self, run: MemoryRun, node: int) -> None:
        self._run = run
        self._node = node

    @property
    def iteration(self) -> Iteration | None:
        """What ``next_iteration`` gave to this visit."""
        return self._run.state.iterations.get(self._node)

    def result(self, node: int, *, keyed: bool = False) -> Any:
        """The result of a node, MISSING without one."""
        state = self._run.state
        value = state.results.get(node, MISSING)
        if keyed and value is not MISSING and node in state.result_keys:
            return {state.ids[key]: item for key, item in zip(state.result_keys[node], value, strict=True)}
        return value

    def predecessor(self) -> int | None:
        """The only node whose edge fired for this visit."""
        return self._run.state.predecessor(self._node)

    def leads_here(self, node: int) -> bool:
        """Whether gotos made in this run lead from ``node`` to here: to this step or its maker, or to something that leads there."""
        run, plan, jumps = self._run, self._run.plan, self._run.state.jumps
        if not jumps:
            return False
        reached = set(self._stems(self._node))
        found = True
        while found:
            found = False
            for source, target in jumps:
                if source not in reached and any(self._enters(target, here) for here in reached):
                    reached.update(self._stems(source))
                    found = True
        went = reached - {self._node} - run.state.scopes.keys()  # groups are passed through, they do not go
        return node in went or any(source < len(plan.ids) and leads(plan, node, source) for source in reached)

    def _stems(self, node: int) -> Iterator[int]:
        """A node and what it was made by: the makers of a task made at run time, the group of a member made for an item."""
        yield node
        dynamic = self._run.state.dynamic
        while node in dynamic:
            node = dynamic[node]
            yield node

    def _enters(self, target: int, node: int) -> bool:
        """Whether going to ``target`` is a way to ``node``: they are one, edges lead there, or the one is a group around the other."""
        return target == node or leads(self._run.plan, target, node) or self._holds(target, node)

    def _holds(self, group: int, node: int) -> bool:
        scope_of = self._run.state.scope_of
        while (node := scope_of[node]) != RUN:
            if node == group:
                return True
        return False

    def item(self) -> Any:
        """The item of a mapped group that this member is for."""
        state = self._run.state
        group = self._run.plan.groups[state.scope_of[self._node]]
        if group is None or group.mapping is None:
            return MISSING
        items, place = state.results.get(group.mapping.source, ()), state.item_of[self._node]
        return items[place] if place < len(items) else MISSING

    def error(self) -> TaskError | None:
        """The failure that a failure or always edge brought here, the last one if there are several."""
        state, plan, node = self._run.state, self._run.plan, self._node
        while True:
            brought = self._failed_before(node)
            if brought:
                return [state.errors[source] for source in state.errors if source in brought][-1].error
            if node in state.came_from or (node < len(plan.ins) and plan.ins[node]) or state.scope_of[node] == RUN:
                return None
            node = state.scope_of[node]

    def _failed_before(self, node: int) -> set[int]:
        """The failed nodes whose edges fired for the present visit; those of back edges are undecided again by now."""
        state, plan = self._run.state, self._run.plan
        fired = [plan.edges[edge].source for edge in plan.ins[node] if state.edge[edge] == FIRE] if node < len(plan.ins) else []
        brought = {source for source in fired if state.status[source] == HANDLED}
        for source in state.came_from.get(node, ()):
            if source in state.errors and any(plan.edges[edge].target == node for edge in plan.forks.get(source, ())):
                brought.add(source)
        return brought

    def result_names(self) -> Iterable[str]:
        """Ids of the nodes whose results lead here."""
        state, plan = self._run.state, self._run.plan
        anchor = self._node
        while anchor >= len(plan.ids):
            anchor = state.dynamic[anchor]
        return [state.ids[node] for node in state.results if node < len(plan.ids) and leads(plan, node, anchor)]

    def channel_value(self, key: str) -> Any:
        """The channel's value under a key, MISSING without one."""
        return self._run.channel.peek(key, MISSING)

    def channel_keys(self) -> Iterable[str]:
        """The channel's keys."""
        return self._run.channel.peek_keys()
