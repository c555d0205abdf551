"""Code travels by name: it is looked for when it is used, and what has no name is refused or stays in its process."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from graflow.core.group import parallel
from graflow.core.plan import Plan
from graflow.core.policy import GroupState
from graflow.core.retry import RetryPolicy
from graflow.core.task import AsyncTask, SyncTask, Task, task
from graflow.errors import FunctionNotFoundError
from graflow.wire.local import LocalCode
from graflow.wire.plans import decode_plan, encode_plan, plan_key
from graflow.wire.standins import SentFunction
from graflow.wire.tasks import decode_task, encode_task
from tests.wire import plans_to_send as sent
from tests.wire.plans_to_send import assert_equal, plan_of

PLANS = sent.various()


def test_the_kinds_of_tasks_are_known_without_their_functions() -> None:
    there = decode_plan(encode_plan(PLANS["contexts"]))
    assert [type(each) for each in there.tasks] == [SyncTask, AsyncTask, SyncTask]
    assert all(each is not None and isinstance(each.spec, SentFunction) for each in there.tasks)


# ---- code that is not here ----

SHOP = """
imported.append(1)
from graflow.core.task import task
from graflow.core.retry import RetryPolicy
from dataclasses import dataclass

class Declined(Exception): pass

@dataclass
class Order:
    number: int

def enough(state): return True

@task(retry=RetryPolicy(3, retry_on=Declined, give_up_on=OSError))
def pay(order: Order): return order

@task
async def ship(order): return order
"""


class AnotherMachine:
    """A module that can be taken away and given back, and how often it was imported."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._patch = folder, monkeypatch
        self.imported: list[int] = []
        monkeypatch.setattr("builtins.imported", self.imported, raising=False)
        monkeypatch.syspath_prepend(folder)
        self.install(SHOP)

    def install(self, text: str) -> Any:
        (self._folder / "shop_of_the_test.py").write_text(text)
        self.forget()
        return self

    def forget(self) -> None:
        sys.modules.pop("shop_of_the_test", None)
        importlib.invalidate_caches()
        for cached in self._folder.glob("__pycache__/*"):
            cached.unlink()

    def remove(self) -> None:
        (self._folder / "shop_of_the_test.py").unlink()
        self.forget()

    def plan(self) -> Plan:
        import shop_of_the_test as shop  # pyright: ignore[reportMissingImports]

        paid = shop.pay.clone("paid", order=shop.Order(7))
        return plan_of(sent.load >> paid >> parallel(shop.ship, sent.load.clone("more"), policy=shop.enough))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AnotherMachine]:
    machine = AnotherMachine(tmp_path, monkeypatch)
    yield machine
    machine.forget()


def test_nothing_is_imported_until_a_function_is_asked_for(elsewhere: AnotherMachine) -> None:
    plan = elsewhere.plan()
    data = encode_plan(plan)
    elsewhere.forget()
    elsewhere.imported.clear()
    there = decode_plan(data)
    paid = there.tasks[there.index["paid"]]
    assert paid is not None
    assert there.handler_kinds == plan.handler_kinds
    assert (paid.options.queue, paid.bound and 1, there.digest) == ("default", 1, plan.digest)
    assert there.ids == plan.ids
    assert encode_plan(there, digest=there.digest)[:2] == data[:2]
    assert elsewhere.imported == [1]  # by the last line, which had to look at what is bound
    order = paid.bound["order"]
    assert (type(order).__name__, order.number) == ("Order", 7)
    assert type(order) is paid.function.__globals__["Order"]


def test_a_plan_is_good_for_all_that_can_be_found(elsewhere: AnotherMachine) -> None:
    plan = elsewhere.plan()
    data = encode_plan(plan)
    elsewhere.remove()
    there = decode_plan(data)
    load, paid = (there.tasks[there.index[name]] for name in ("load", "paid"))
    assert load == sent.load
    assert paid is not None
    assert paid.handler_kind == "thread"
    assert "paid" in repr(paid)
    for ask in (
        lambda: paid.function,
        lambda: paid.signature,
        lambda: paid.spec.identity,
        lambda: paid.spec.name,
        lambda: cast("Any", paid)(),
    ):
        with pytest.raises(FunctionNotFoundError, match="no module 'shop_of_the_test'") as caught:
            ask()
        assert caught.value.reference == "shop_of_the_test:pay"
    assert len(repr(paid)) > 0
    assert not hasattr(paid.spec, "nothing_like_it")


def test_what_was_missing_is_found_once_it_is_there(elsewhere: AnotherMachine) -> None:
    data = encode_plan(elsewhere.plan())
    elsewhere.remove()
    paid = decode_plan(data).tasks[1]
    assert paid is not None
    assert paid.bound["order"] == {"number": 7}
    with pytest.raises(FunctionNotFoundError):
        _ = paid.function
    elsewhere.install(SHOP)
    assert paid.function(1) == 1
    assert type(paid.bound["order"]).__name__ == "Order"


def test_an_error_class_is_looked_for_when_an_error_is_compared_with_it(elsewhere: AnotherMachine) -> None:
    plan = elsewhere.plan()
    mine = plan.tasks[1]
    data = encode_plan(plan)
    elsewhere.remove()
    paid = decode_plan(data).tasks[1]
    assert mine is not None
    assert paid is not None
    policy = paid.options.retry
    assert policy is not None
    assert policy == mine.options.retry
    assert encode_task(paid.bind()) == encode_task(decode_task(encode_task(paid)))
    with pytest.raises(FunctionNotFoundError):
        policy.retries(ValueError())
    shop = elsewhere.install(SHOP) and __import__("shop_of_the_test")
    assert policy.retries(shop.Declined())
    assert not policy.retries(ValueError())
    assert not policy.retries(OSError())
    assert issubclass(shop.Declined, policy.retry_on)
    assert policy.retry_on != (ValueError,)
    assert hash(policy) == hash(RetryPolicy(3, retry_on=(shop.Declined,), give_up_on=(OSError,)))


def test_a_policy_is_looked_for_when_it_is_asked(elsewhere: AnotherMachine) -> None:
    plan = elsewhere.plan()
    data = encode_plan(plan)
    elsewhere.remove()
    group = decode_plan(data).groups[2]
    assert group is not None
    assert group.policy.function is not None
    assert group.policy == (plan.groups[2] and plan.groups[2].policy)
    again = decode_plan(data).groups[2]
    assert again is not None
    assert group.policy == again.policy
    assert hash(group.policy) == hash(again.policy)
    assert "enough" in repr(group.policy)
    with pytest.raises(FunctionNotFoundError):
        group.policy.function(GroupState())
    elsewhere.install(SHOP)
    assert group.policy.function(GroupState())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("async def pay(order): ...", "is an async def here and was a def where the run was submitted"),
        ("def pay(order): yield", "cannot be run as a task"),
        ("pay = 5", "is a int, not a function"),
        ("class Declined: pass", "has no 'pay'"),
    ],
)
def test_other_code_of_that_name_is_refused(elsewhere: AnotherMachine, text: str, problem: str) -> None:
    data = encode_plan(elsewhere.plan())
    elsewhere.install(text)
    paid = decode_plan(data).tasks[1]
    assert paid is not None
    with pytest.raises(FunctionNotFoundError, match=problem):
        _ = paid.function


@pytest.mark.parametrize("loaded", [False, True])
def test_what_is_no_exception_class_is_no_error_class(elsewhere: AnotherMachine, loaded: bool) -> None:
    data = encode_plan(elsewhere.plan())
    elsewhere.install("class Declined: pass")
    if loaded:
        __import__("shop_of_the_test")
    paid = decode_plan(data).tasks[1]
    assert paid is not None
    assert paid.options.retry is not None
    with pytest.raises(FunctionNotFoundError, match="no exception class"):
        paid.options.retry.retries(ValueError())


# ---- code that cannot travel ----


def make_local() -> Any:
    def inside(n: int = 0) -> int:
        return n

    return inside


class Callable_:
    __slots__ = ()

    def __call__(self, n: int = 0) -> int:
        return n

    def method(self, n: int = 0) -> int:
        return n


LOCAL = {
    "a lambda": lambda n=0: n,
    "a local function": make_local(),
    "a partial": functools.partial(sent.bare, n=1),
    "a method": Callable_().method,
    "an object": Callable_(),
}


@pytest.mark.parametrize("what", LOCAL)
def test_code_without_a_name_is_refused_with_the_task_and_the_remedy(what: str) -> None:
    plan = plan_of(sent.load >> task("odd one")(LOCAL[what]))
    with pytest.raises(FunctionNotFoundError, match=r"'odd one' cannot be run .*top level of a module that the workers") as caught:
        encode_plan(plan)
    assert "<" in caught.value.reference


def in_main(monkeypatch: pytest.MonkeyPatch) -> Any:
    main = types.ModuleType("__main__")
    exec("def fetch(): return 5", main.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main.fetch


def test_functions_of_the_main_module_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FunctionNotFoundError, match=r"'fetch' .* stands in the main module"):
        encode_plan(plan_of(task(in_main(monkeypatch))))


def test_a_function_that_its_name_does_not_lead_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(task(sent.bare))
    monkeypatch.setattr(sent, "bare", lambda: 1)
    with pytest.raises(FunctionNotFoundError, match="is not what that name leads to"):
        encode_plan(plan)


def test_policies_and_error_classes_without_a_name_are_refused() -> None:
    class Odd(Exception):
        pass

    two = sent.load.clone("two")
    with pytest.raises(FunctionNotFoundError, match=r"'pair' .*<lambda>"):
        encode_plan(plan_of(parallel(sent.load, two, name="pair", policy=lambda state: True)))
    with pytest.raises(FunctionNotFoundError, match=r"'bare' .*Odd"):
        encode_task(task(retry=RetryPolicy(1, retry_on=(Odd,)))(sent.bare))


@pytest.mark.parametrize("what", LOCAL)
def test_local_code_is_found_again_in_its_process(what: str) -> None:
    local = LocalCode()
    plan = plan_of(sent.load >> task("odd one")(LOCAL[what]))
    data = encode_plan(plan, local_code=local)
    assert encode_plan(plan, local_code=local) == data
    there = decode_plan(data, local_code=local)
    assert_equal(there, plan)
    assert encode_plan(there) == data
    for other in (LocalCode(), None):
        odd = decode_plan(data, local_code=other).tasks[1]
        assert odd is not None
        with pytest.raises(FunctionNotFoundError, match="only in the process that defined it"):
            _ = odd.function


def test_local_code_may_be_policies_error_classes_and_the_main_module(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Exception):
        pass

    local = LocalCode()
    pair = parallel(task(in_main(monkeypatch)), task("b", retry=RetryPolicy(1, retry_on=(Odd,)))(sent.bare), policy=lambda state: True)
    plan = plan_of(pair)
    data = encode_plan(plan, local_code=local)
    assert_equal(decode_plan(data, local_code=local), plan)
    there = decode_plan(data, local_code=None)
    b, group = there.tasks[there.index["b"]], there.groups[0]
    assert b is not None
    assert group is not None
    assert b.options.retry is not None
    assert group.policy.function is not None
    with pytest.raises(FunctionNotFoundError):
        b.options.retry.retries(Odd())
    with pytest.raises(FunctionNotFoundError):
        group.policy.function(GroupState())


def test_functions_with_names_travel_by_them_also_where_local_code_may() -> None:
    assert encode_plan(PLANS["functions"], local_code=LocalCode()) == encode_plan(PLANS["functions"])


def test_the_registry_keeps_no_function_alive() -> None:
    local = LocalCode()
    function = make_local()
    name = local.refer(function)
    assert local.find(name) is function
    assert local.refer(function) == name
    del function
    gc.collect()
    with pytest.raises(FunctionNotFoundError):
        local.find(name)
    assert not local._names
    assert not local._found


def test_the_key_tells_apart_what_the_digest_does_not() -> None:
    class Opaque:
        pass

    def closure(held: Any) -> Task[..., Any]:
        @task
        def hold() -> Any:
            return held

        return hold

    local = LocalCode()
    one, other = plan_of(closure(Opaque())), plan_of(closure(Opaque()))
    assert one.digest == other.digest
    keys = [plan_key(encode_plan(plan, local_code=local)) for plan in (one, other, one)]
    assert keys[0] == keys[2] != keys[1]
