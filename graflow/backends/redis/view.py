"""What one step may know of its run, from what came along with it and from one more look where that does not do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.failures import read_error
from graflow.backends.redis.image import spread
from graflow.core.calls import MISSING, leads
from graflow.core.outcome import Iteration
from graflow.core.plan import RUN
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from graflow.backends.redis.deliveries import RedisDelivery
    from graflow.core.outcome import TaskError
    from graflow.core.plan import Plan

_numbers: Final = msgspec.msgpack.Decoder(list[int]).decode
_parts: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_ranges: Final = msgspec.msgpack.Decoder(list[list[int]]).decode


class Found:
    """Values of one step by where they were found, as bytes.

    Attributes:
        results: of nodes.
        groups: nodes that a group's result is made of, and their results.
        channel: values by key, still marked.
        predecessor: the only node whose edge fired, None if there is none or nobody asked.
        error: the node that failed before this one, and its error.
        item: the item that this member is for.
        jumps: pairs of who went and where.
        makers: who made a node, and its scope.
        ranges: members of mapped groups: lowest and highest number, group, place of the lowest.
    """

    __slots__ = ("channel", "error", "groups", "item", "jumps", "makers", "predecessor", "ranges", "results")

    def __init__(self) -> None:
        self.results: dict[int, bytes] = {}
        self.groups: dict[int, tuple[list[int], list[bytes] | None]] = {}
        self.channel: dict[str, bytes] = {}
        self.predecessor: int | None = None
        self.error: tuple[int, bytes] | None = None
        self.item: bytes | None = None
        self.jumps: list[tuple[int, int]] = []
        self.makers: dict[int, tuple[int, int]] = {}
        self.ranges: list[list[int]] = []

    def add(self, node: int, value: Any) -> None:
        """A result as the scripts give it."""
        if isinstance(value, bytes):
            self.results[node] = value
        elif value:
            self.groups[value[0]] = (list(spread(_numbers(value[1]))), value[2])


def read_inputs(delivery: RedisDelivery) -> Found:
    """What came along with an attempt, see scripts/delivering.lua."""
    found = Found()
    if delivery.inputs is None:
        return found
    pairs, before, error, item, jumps, ranges = delivery.inputs
    if ranges is not None:
        found.ranges = _ranges(ranges)
    for place, source in enumerate(delivery.call.sources):
        result, value = pairs[2 * place], pairs[2 * place + 1]
        if result and source.node is not None:
            found.add(source.node, result)
        if value is not None:
            found.channel[source.parameter.name] = value
    if before:
        found.predecessor = before[0]
        found.add(before[0], before[1])
    if error:
        found.error = (error[0], error[1])
    found.item = item
    if jumps:
        told, makers = jumps
        found.jumps = list(zip(told[::2], told[1::2], strict=True))
        found.makers = {makers[place]: (makers[place + 1], makers[place + 2]) for place in range(0, len(makers), 3)}
    return found


class RedisStepView:
    """A :class:`~graflow.core.calls.StepView` over what was found for one step."""

    __slots__ = ("_channel", "_delivery", "_found", "_names")

    def __init__(self, delivery: RedisDelivery, found: Found, channel: Mapping[str, Any]) -> None:
        self._delivery = delivery
        self._found = found
        self._channel = channel
        self._names: tuple[Sequence[str], Sequence[str]] = ((), ())

    def tell(self, results: Sequence[str], keys: Sequence[str]) -> None:
        """What there is, for the message about what there is not."""
        self._names = (results, keys)

    @property
    def plan(self) -> Plan:
        """The plan of the run."""
        return self._delivery.plan

    def name_of(self, node: int) -> str:
        """The id of a node."""
        plan = self._delivery.plan
        if node < len(plan.ids):
            return plan.ids[node]
        for low, high, group, place in self._found.ranges:
            known = plan.groups[group]
            if low <= node <= high and known is not None and known.mapping is not None:
                return f"{known.mapping.task.id}[{place + node - low}]"
        return dict(self._delivery.makers).get(node, f"#{node}")

    @property
    def iteration(self) -> Iteration | None:
        """What ``next_iteration`` gave to this visit."""
        data = self._delivery.iteration
        if data is None:
            return None
        given, arguments = codec.decode(data)
        return Iteration(given[0] if given else MISSING, arguments)

    def result(self, node: int, *, keyed: bool = False) -> Any:
        """The result of a node, MISSING without one."""
        group = self._found.groups.get(node)
        if group is not None:
            keys, values = group
            decoded = [codec.decode(value) for value in values or ()]
            return dict(zip(map(self.name_of, keys), decoded, strict=True)) if keyed else decoded
        data = self._found.results.get(node)
        return MISSING if data is None else codec.decode(data)

    def predecessor(self) -> int | None:
        """The only node whose edge fired for this visit."""
        return self._found.predecessor

    def leads_here(self, node: int) -> bool:
        """Whether gotos made in this run lead from ``node`` to here: to this step or its maker, or to something that leads there."""
        jumps, plan = self._found.jumps, self._delivery.plan
        if not jumps:
            return False
        me = self._delivery.entry.node
        reached = set(self._stems(me))
        more = True
        while more:
            more = False
            for source, target in jumps:
                if source not in reached and any(self._enters(target, here) for here in reached):
                    reached.update(self._stems(source))
                    more = True
        went = {other for other in reached - {me} if other >= len(plan.ids) or plan.groups[other] is None}  # groups are passed through
        return node in went or any(source < len(plan.ids) and leads(plan, node, source) for source in reached)

    def _stems(self, node: int) -> Iterator[int]:
        yield node
        while node in self._found.makers:
            node = self._found.makers[node][0]
            yield node

    def _enters(self, target: int, node: int) -> bool:
        return target == node or leads(self._delivery.plan, target, node) or self._holds(target, node)

    def _holds(self, group: int, node: int) -> bool:
        plan, makers = self._delivery.plan, self._found.makers
        while (node := plan.scope[node] if node < len(plan.ids) else makers[node][1]) != RUN:
            if node == group:
                return True
        return False

    def item(self) -> Any:
        """The item of a mapped group that this member is for."""
        return MISSING if self._found.item is None else codec.decode(self._found.item)

    def error(self) -> TaskError | None:
        """The failure that a failure or always edge brought here, the last one if there are several."""
        if self._found.error is None:
            return None
        node, data = self._found.error
        return read_error(_parts(data), node, self).error

    def channel_value(self, key: str) -> Any:
        """The channel's value under a key, MISSING without one."""
        return self._channel.get(key, MISSING)

    def result_names(self) -> Iterable[str]:
        """Ids of the nodes whose results lead here."""
        return self._names[0]

    def channel_keys(self) -> Iterable[str]:
        """The channel's keys."""
        return self._names[1]
