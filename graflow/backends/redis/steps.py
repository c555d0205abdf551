"""What a step is given to find its arguments in: mostly what came along with it, and one more look at the server for what is large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.backends.redis.commands import ask_all
from graflow.backends.redis.image import read_made, spread
from graflow.backends.redis.outcomes import ELSEWHERE
from graflow.backends.redis.view import Found, RedisStepView, read_inputs
from graflow.core.calls import leads
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from graflow.backends.redis.channel import RedisChannel
    from graflow.backends.redis.client import RedisClient
    from graflow.backends.redis.deliveries import RedisDelivery

_number_list: Final = msgspec.msgpack.Decoder(list[int]).decode
SLICE: Final = 512


async def view_of(client: RedisClient, delivery: RedisDelivery, channel: RedisChannel) -> RedisStepView:
    """The view of a step, with everything in it that its arguments may be made of."""
    found = read_inputs(delivery)
    if found.groups or found.results:
        await _fetch_large(client, delivery, found)
    values: dict[str, Any] = {}
    for key, data in found.channel.items():
        value = await channel.read_field(key, data)
        if value is not msgspec.UNSET:
            values[key] = value
    view = RedisStepView(delivery, found, values)
    if _lacks(delivery, found, values):  # which is about to be said: tell then what there would have been
        names, keys = await _names(client, delivery), await channel.keys()
        view.tell(names, keys)
    return view


def _lacks(delivery: RedisDelivery, found: Found, values: dict[str, Any]) -> bool:
    """Whether a required parameter may get no value."""
    starving = 0
    for source in delivery.call.sources:
        known = source.reached and (source.node in found.results or source.node in found.groups)
        if source.parameter.required and not known and source.parameter.name not in values:
            starving += 1
    before = found.predecessor
    return starving > 1 or (starving == 1 and before not in found.results and before not in found.groups)


async def _fetch_large(client: RedisClient, delivery: RedisDelivery, found: Found) -> None:
    """Results of groups with many members, and results that are kept under a key of their own."""
    run_id = delivery.entry.run_id
    for node, (keys, values) in found.groups.items():
        if values is None:
            found.groups[node] = (keys, await fetch_results(client, run_id, keys, delivery))
    elsewhere = {node: value[1:] for node, value in found.results.items() if value[:1] == ELSEWHERE}
    if elsewhere:
        large = await ask_all(client, [("GET", key) for key in elsewhere.values()])
        found.results.update({node: value for node, value in zip(elsewhere, large, strict=True) if value is not None})
    for keys, values in found.groups.values():
        if values is not None and any(value[:1] == ELSEWHERE for value in values):
            large = await ask_all(client, [("GET", value[1:]) if value[:1] == ELSEWHERE else ("ECHO", value) for value in values])
            values[:] = large
        assert len(keys) == len(values or ())


async def fetch_results(client: RedisClient, run_id: str, nodes: Sequence[int], delivery: RedisDelivery) -> list[bytes]:
    """The results of nodes, groups among them."""
    key = client.keys.results(run_id)
    commands = [("HMGET", key, *map(str, nodes[begin : begin + SLICE])) for begin in range(0, len(nodes), SLICE)]
    values: list[bytes | None] = [value for part in await ask_all(client, commands) for value in part]
    for place, node in enumerate(nodes):
        if values[place] is None:
            values[place] = await _group_as_list(client, run_id, node, delivery)
    return [value if value is not None else codec.encode(None) for value in values]


async def _group_as_list(client: RedisClient, run_id: str, node: int, delivery: RedisDelivery) -> bytes | None:
    """The result of a group within a group, as the bytes of a list."""
    keys = (await ask_all(client, [("HGET", client.keys.run(run_id), f"K{node}")]))[0]
    if keys is None:
        return None
    values = await fetch_results(client, run_id, list(spread(_number_list(keys))), delivery)
    return codec.encode([codec.decode(value) for value in values])


async def find_result(client: RedisClient, delivery: RedisDelivery, node_id: str) -> tuple[str, Any, list[str], list[str]]:
    """The result of a node by its id: ("found" | "missing" | "unknown", the value, all ids, ids of what has completed)."""
    run_id, plan = delivery.entry.run_id, delivery.plan
    node = plan.index.get(node_id)
    if node is not None:
        value = await _result(client, run_id, node, delivery)
        if value is not None:
            return "found", codec.decode(value), [], []
    fields, results = await ask_all(client, [("HGETALL", client.keys.run(run_id)), ("HKEYS", client.keys.results(run_id))])
    made = _made_ids(fields)
    known = [*plan.ids, *made.values()]
    node = node if node is not None else next((number for number, name in made.items() if name == node_id), None)
    if node is None:
        return "unknown", None, known, []
    if node >= len(plan.ids):
        value = await _result(client, run_id, node, delivery)
        if value is not None:
            return "found", codec.decode(value), [], []
    completed = sorted(int(number) for number in results)
    names = {**dict(enumerate(plan.ids)), **made}
    return "missing", None, known, [names[number] for number in completed if number in names]


async def _result(client: RedisClient, run_id: str, node: int, delivery: RedisDelivery) -> bytes | None:
    plan = delivery.plan
    if node < len(plan.ids) and plan.groups[node] is not None:
        return await _group_as_list(client, run_id, node, delivery)
    value: bytes | None = (await ask_all(client, [("HGET", client.keys.results(run_id), str(node))]))[0]
    if value is not None and value[:1] == ELSEWHERE:
        value = (await ask_all(client, [("GET", value[1:])]))[0]
    return value


def _made_ids(fields: Sequence[bytes]) -> dict[int, str]:
    """Ids of tasks made by ``next_task``, by number."""
    pairs = zip(fields[::2], fields[1::2], strict=True)
    return {int(name[1:]): read_made(value).id for name, value in pairs if name[:1] == b"D" and name[1:].isdigit()}


async def _names(client: RedisClient, delivery: RedisDelivery) -> list[str]:
    """Ids of the nodes whose results lead here."""
    plan, stem = delivery.plan, delivery.stem
    run_id = delivery.entry.run_id
    results, fields = await ask_all(client, [("HKEYS", client.keys.results(run_id)), ("HKEYS", client.keys.run(run_id))])
    nodes = [int(node) for node in results] + [int(name[1:]) for name in fields if name[:1] == b"K" and name[1:].isdigit()]
    return [plan.ids[node] for node in nodes if node < len(plan.ids) and leads(plan, node, stem)]
