"""A plan arrives as an equal one, and asks for code only when it is used."""

from __future__ import annotations

import enum
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow.core.group import parallel
from graflow.core.plan import Plan
from graflow.core.task import Task, task
from graflow.errors import SerializationError
from graflow.wire.messages import PROTOCOL_VERSION
from graflow.wire.plans import decode_plan, encode_plan, plan_key
from graflow.wire.tasks import decode_task, encode_task
from tests.model.generate import Drawing, Shape
from tests.model.plans import make_plan
from tests.wire import plans_to_send as sent
from tests.wire.plans_to_send import assert_equal, plan_of

ROOT = Path(__file__).parents[2]
PLANS = sent.various()


def known_again(digest: str, plan: Plan) -> bool:
    """Whether the digest worked out from what arrived is the one that was sent."""
    plan._digest = None
    return plan.digest == digest


@given(st.integers(0, 2**32))
def test_any_graph_arrives_as_it_was_sent(seed: int) -> None:
    plan = make_plan(Drawing(Random(seed), Shape(wild=True, early=True)).draw())
    plan.recipes = [None] * len(plan.ids)
    data = encode_plan(plan)
    there = decode_plan(data)
    assert_equal(there, plan)
    assert encode_plan(there) == data
    assert known_again(plan.digest, there)


def parameters(task: Task[..., Any]) -> list[Any]:
    return [(each.name, each.role, each.default, each.annotation) for each in task.signature.parameters]


@pytest.mark.parametrize("what", PLANS)
def test_whatever_the_language_can_draw_arrives(what: str) -> None:
    plan = PLANS[what]
    data = encode_plan(plan)
    there = decode_plan(data)
    assert_equal(there, plan)
    assert encode_plan(there) == data
    assert known_again(plan.digest, there)
    for mine, yours in zip(plan.tasks, there.tasks, strict=True):
        if mine is not None and yours is not None:
            assert type(mine) is type(yours)
            assert list(map(type, mine.bound.values())) == list(map(type, yours.bound.values()))
            assert parameters(mine) == parameters(yours)
            assert mine.spec.inject_context == yours.spec.inject_context


def test_tasks_from_one_function_share_what_is_known_of_it() -> None:
    there = decode_plan(encode_plan(PLANS["items"]))
    tasks = [each for each in there.tasks if each is not None and each.id != "load"]
    assert len({id(each.spec) for each in tasks}) == len({id(each.options) for each in tasks}) == 1
    again = decode_plan(encode_plan(PLANS["options"])).tasks[1]
    assert again is not None
    assert again.signature is tasks[0].signature


def test_a_task_travels_alone() -> None:
    for plan in PLANS.values():
        for mine in plan.tasks:
            if mine is not None:
                yours = decode_task(encode_task(mine))
                assert yours == mine
                assert type(yours) is type(mine)


def test_the_members_of_a_string_enum_may_be_ids() -> None:
    class Name(enum.StrEnum):
        LOAD = "load it"

    there = decode_plan(encode_plan(plan_of(sent.load.clone(Name.LOAD))))
    assert there.ids == ["load it"]
    assert type(there.ids[0]) is str


def test_the_same_plan_has_the_same_bytes_and_key_in_every_process() -> None:
    program = (
        "import sys; from tests.wire.plans_to_send import various; from graflow.wire.plans import *\n"
        "sent = dict(line.split() for line in sys.stdin)\n"
        "for plan in various().values():\n"
        "    data = encode_plan(plan); there = decode_plan(data); there._digest = None\n"
        "    assert sent[plan_key(data)] == plan.digest == there.digest, plan\n"
    )
    told = "".join(f"{plan_key(encode_plan(plan))} {plan.digest}\n" for plan in PLANS.values())
    subprocess.run([sys.executable, "-c", program], input=told, text=True, check=True, cwd=ROOT, timeout=50)


def test_a_policy_that_is_a_task_arrives_as_its_function() -> None:
    plan = plan_of(parallel(sent.load, sent.load.clone("two"), policy=sent.judge))
    group = decode_plan(encode_plan(plan)).groups[0]
    assert group is not None
    assert group.policy.function is sent.judge.function


# ---- what is no plan ----


def test_an_argument_that_cannot_travel_is_named() -> None:
    plan = plan_of(sent.bound_to(1, "good"), sent.bound_to({"file": sys.stdout}, "bad"))
    with pytest.raises(SerializationError, match=r"bound argument bad\.amount") as caught:
        encode_plan(plan)
    assert "file" in caught.value.path


def test_an_argument_may_be_as_deep_as_anything() -> None:
    deep: list[Any] = []
    for _ in range(127):
        deep = [deep]
    there = decode_plan(encode_plan(plan_of(sent.bound_to(deep)))).tasks[0]
    assert there is not None
    assert there.bound == {"amount": deep}


@pytest.mark.parametrize(("name", "bound"), [("\ud800", 3), ("fine", 2**64)])
def test_ids_and_numbers_that_msgpack_cannot_hold_are_refused(name: str, bound: int) -> None:
    odd = task(name, max_cycles=bound)(sent.bare)
    with pytest.raises(SerializationError, match="cannot travel"):
        encode_plan(plan_of(odd))
    with pytest.raises(SerializationError, match="cannot travel"):
        encode_task(odd)


def test_a_plan_with_stubs_stays_here() -> None:
    with pytest.raises(SerializationError, match="stubs"):
        encode_plan(PLANS["options"].substituted(lambda each, *_: each))


@pytest.mark.parametrize("decode", [decode_plan, decode_task])
def test_a_newer_version_is_refused(decode: Any) -> None:
    data = msgspec.msgpack.encode([PROTOCOL_VERSION + 1, "whatever it may be"])
    with pytest.raises(SerializationError, match=f"protocol version {PROTOCOL_VERSION + 1} .*upgrade graflow"):
        decode(data)


@pytest.mark.parametrize("decode", [decode_plan, decode_task])
@pytest.mark.parametrize("data", [b"", b"\xc0", b"\x92\x01\x80", b"\x92\x00\x80", msgspec.msgpack.encode([1, {"name": "x"}])])
def test_what_is_no_plan_is_refused(decode: Any, data: bytes) -> None:
    with pytest.raises(SerializationError, match="bytes arrived that are no"):
        decode(data)


SAMPLES = [
    encode_plan(PLANS[what]) for what in ("nested groups", "a mapped group with arguments", "conditions and a loop", "a retry policy")
]


@given(st.sampled_from(SAMPLES), st.data())
def test_bytes_that_were_changed_are_refused_or_read(sample: bytes, data: st.DataObject) -> None:
    changed = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(sample) - 1))] = data.draw(st.integers(0, 255))
    try:
        plan = decode_plan(bytes(changed))
    except SerializationError:
        return
    assert len(plan.tasks) == len(plan.ids)


@given(st.sampled_from(SAMPLES), st.data())
def test_bytes_that_were_cut_off_are_refused(sample: bytes, data: st.DataObject) -> None:
    with pytest.raises(SerializationError):
        decode_plan(sample[: data.draw(st.integers(0, len(sample) - 1))])


def changed(plan: Plan, **columns: Any) -> bytes:
    version, body = msgspec.msgpack.decode(encode_plan(plan))
    return msgspec.msgpack.encode([version, {**body, **columns}])


@pytest.mark.parametrize(
    "columns",
    [
        {"ids": ["a", "a"]},
        {"ids": ["a"]},
        {"scope": [-1, 1]},
        {"scope": [-1, 0]},
        {"scope": [-1, -2]},
        {"kinds": [0, 5]},
        {"kinds": [0, -1]},
        {"kinds": [0, -2]},
        {"arguments": [0, -1]},
        {"sources": [2]},
        {"targets": []},
        {"top": 3},
        {"outputs": [2]},
        {"start": 2},
        {"max_cycles": {2: 1}},
        {"groups": [[0, 0, 0, [], ["strict", 0, False, [], None], None, [], None]]},
        {"bound": 5},
        {"conditions": {0: "maybe"}},
    ],
)
def test_numbers_of_nothing_are_refused(columns: dict[str, Any]) -> None:
    plan = plan_of(sent.load >> task(sent.bare))
    decode_plan(changed(plan))
    with pytest.raises(SerializationError):
        decode_plan(changed(plan, **columns))


def test_arguments_that_are_no_mapping_are_refused_when_they_are_read() -> None:
    there = decode_plan(changed(PLANS["a retry policy"], bound=[5])).tasks[0]
    assert there is not None
    with pytest.raises(SerializationError, match="no mapping"):
        dict(there.bound)


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    assert_equal(decode_plan(changed(PLANS["options"], colour="green")), PLANS["options"])
