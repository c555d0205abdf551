"""What one step may know of its run, read where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.core.board import FIRE, HANDLED
from graflow.core.calls import MISSING, leads
from graflow.core.plan import RUN

if TYPE_CHECKING:
    from collections.abc import Iterable

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
        """Whether gotos made in this run lead from ``node`` to here: to this step, or to something that leads here."""
        plan, jumps = self._run.plan, self._run.state.jumps
        if not jumps:
            return False
        reached = {self._node}
        found = True
        while found:
            found = False
            for source, target in jumps:
                if source not in reached and any(target == here or leads(plan, target, here) or self._holds(target, here) for here in reached):
                    reached.add(source)
                    found = True
        return any(node == source or (source < len(plan.ids) and leads(plan, node, source)) for source in reached - {self._node})

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
            if node >= len(plan.ins):
                return None
            brought = [edge.source for number in plan.ins[node] if state.edge[number] == FIRE and state.status[(edge := plan.edges[number]).source] == HANDLED]
            if brought:
                return [state.errors[source] for source in state.errors if source in brought][-1].error
            if plan.ins[node] or plan.scope[node] == RUN:
                return None
            node = plan.scope[node]

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
