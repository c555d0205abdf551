"""Rule 30, and where the parameters of a task come from.

A task is a function, and its parameters are found by their names. For each, the first that applies: the context; what
was bound, or given to ``next_iteration``; the result of the task of that name, if it leads here; the channel's value
under that name, where ``inputs=`` are found; the result of the only predecessor, if just one required parameter is still
open; the default. What is found is converted to the annotation.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
from typing import Any, TypedDict

import msgspec
import pytest

from graflow import SyncTaskContext, TaskContext, TaskError, WorkflowEngine, parallel, task, workflow
from graflow.errors import ArgumentTypeError, MissingArgumentError, TaskFailedError, UnknownTaskError
from tests.fundamentals.conftest import Steps


@task
async def price() -> int:
    return 10


@task
async def tax() -> int:
    return 2


async def missing(engine: WorkflowEngine, graph: Any, **options: Any) -> MissingArgumentError:
    """Run a graph that lacks an argument."""
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(graph, **options)
    assert isinstance(failed.value.__cause__, MissingArgumentError)
    return failed.value.__cause__


# ---- where values come from, the first that applies ----------------------------------------------------------------


async def test_the_context_is_found_by_its_annotation(engine: WorkflowEngine) -> None:
    """Design 3: or is the first parameter, with ``inject_context=True``; a def takes the blocking one."""

    @task
    async def by_annotation(number: int, ctx: TaskContext) -> str:
        return f"{ctx.task_id} {number}"

    @task
    def blocking(ctx: SyncTaskContext, number: int) -> str:
        return f"{ctx.task_id} {number}"

    @task(inject_context=True)
    async def by_place(anything, number: int) -> str:  # type: ignore[no-untyped-def]
        return f"{anything.task_id} {number}"

    result = await engine.execute(by_annotation | blocking | by_place, inputs={"number": 1})
    assert result.output == ["by_annotation 1", "blocking 1", "by_place 1"]


async def test_bound_arguments_come_before_all_that_can_be_found(engine: WorkflowEngine) -> None:
    """Design 3: a bound argument wins over a result and a channel value of that name."""

    @task
    async def bill(price: int, currency: str) -> str:
        return f"{price} {currency}"

    inputs = {"price": 100, "currency": "USD"}
    assert (await engine.execute(price >> bill.bind(price=5), inputs=inputs)).output == "5 USD"
    assert (await engine.execute(price >> bill.clone("bill in EUR", currency="EUR"), inputs=inputs)).output == "10 EUR"


async def test_the_arguments_of_an_iteration_come_before_all_else(engine: WorkflowEngine) -> None:
    """Design 3: data fills the first open parameter, keywords fill by name, a bound one too; what is not given is found as ever."""

    @task
    async def page(ctx: TaskContext, cursor: str, size: int, source: str) -> str:
        if ctx.cycle == 1:
            ctx.next_iteration("second", size=20)
        return f"{cursor} {size} {source}"

    inputs = {"cursor": "first", "source": "web"}
    assert (await engine.execute(page.bind(size=10), inputs=inputs)).output == "second 20 web"


async def test_a_parameter_takes_the_result_of_the_task_of_its_name(engine: WorkflowEngine) -> None:
    """Rule 30: it comes before a channel value of that name."""

    @task
    async def bill(price: int, tax: int) -> int:
        return price + tax

    with workflow("w") as wf:
        price >> bill
        tax >> bill
    assert (await engine.execute(wf, inputs={"price": 1000})).output == 12


async def test_a_parameter_takes_the_channel_value_of_its_name(engine: WorkflowEngine) -> None:
    """Design 3: inputs are the first values of the channel, and a task may add to them; they come before the predecessor."""

    @task
    async def configure(ctx: TaskContext) -> str:
        await ctx.channel.set("currency", "EUR")
        return "not the currency"

    @task
    async def bill(currency: str, country: str) -> str:
        return f"{currency}, {country}"

    assert (await engine.execute(configure >> bill, inputs={"country": "FR"})).output == "EUR, FR"


async def test_the_one_open_parameter_takes_the_result_of_the_only_predecessor(engine: WorkflowEngine) -> None:
    """Rule 30: so a chain needs no names to match."""

    @task
    async def doubled(number: int, times: int = 2) -> int:
        return number * times

    assert (await engine.execute(price >> doubled)).output == 20


async def test_a_default_is_what_is_left(engine: WorkflowEngine) -> None:
    """Design 3: a parameter with a default is not open: the predecessor's result does not go there."""

    @task
    async def bill(amount: int = 7) -> int:
        return amount

    assert (await engine.execute(price >> bill)).output == 7


async def test_what_is_missing_fails_the_step_and_says_what_there_was(engine: WorkflowEngine) -> None:
    """Design 3: with the task, the parameter, and the names that were available."""

    @task
    async def bill(price: int, customer: str, country: str) -> None: ...

    with workflow("w") as wf:
        price >> bill
        tax >> bill
    error = await missing(engine, wf, inputs={"country": "FR"})
    assert (error.task_id, error.parameter, error.available) == ("bill", "customer", ("country", "price", "tax"))
    assert "Pass inputs={'customer': ...}, bind it" in str(error)


async def test_two_open_parameters_take_nothing_from_the_predecessor(engine: WorkflowEngine) -> None:
    """Rule 30: exactly one must be open, or Graflow would have to guess."""

    @task
    async def bill(amount: int, customer: str) -> None: ...

    error = await missing(engine, price >> bill)
    assert error.parameter == "amount"
    assert "2 required parameters are open" in str(error)


async def test_a_result_that_was_asked_for_by_name_is_not_given_twice(engine: WorkflowEngine) -> None:
    """Rule 30: price takes the predecessor's result, and discount, which somebody forgot, does not get it as well."""

    @task
    async def bill(price: int, discount: int) -> None: ...

    assert (await missing(engine, price >> bill)).parameter == "discount"


# ---- rule 30: from there to here -----------------------------------------------------------------------------------


async def test_the_name_of_a_task_that_does_not_lead_here_means_nothing(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: a task that merely ran before is none of this task's business."""
    (first,) = steps("first")

    @task
    async def bill(price: int = 0) -> int:
        return price

    @task
    async def strict_bill(price: int) -> int:
        return price

    with workflow("w", output=bill) as wf:
        price >> first.clone("unrelated")
        first >> bill
    assert (await engine.execute(wf)).output == 0
    with workflow("w") as wf:
        wf.add(price, strict_bill)
    assert "no edge leads from it to here" in str(await missing(engine, wf))


async def test_results_are_handed_on_along_any_number_of_edges(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: into groups and out of them as well; a member's result is as good as that of a task at the top."""
    (between, beside) = steps("between beside")

    @task
    async def inside(price: int) -> int:
        return price + 1

    @task
    async def after(price: int, inside: int) -> int:
        return price + inside

    assert (await engine.execute(price >> between >> (inside | beside) >> after)).output == 21


async def test_a_result_is_handed_on_along_a_back_edge(engine: WorkflowEngine) -> None:
    """Rule 30: in the second round the agent reads what the tool did in the first."""

    @task
    async def agent(ctx: TaskContext, tool: str = "nothing yet") -> str:
        if ctx.cycle == 2:
            ctx.end_loop()
        return f"agent saw {tool}"

    @task
    async def tool(agent: str) -> str:
        return f"'{agent}'"

    assert (await engine.execute(agent >> tool >> agent))[agent] == "agent saw 'agent saw nothing yet'"


async def test_a_result_is_handed_on_along_a_goto(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: who goes somewhere leads there, and so does whatever led to him."""
    (usual,) = steps("usual")

    @task
    async def router(ctx: TaskContext) -> str:
        ctx.goto("handler")
        return "refund"

    @task
    async def handler(router: str, price: int) -> str:
        return f"{router} {price}"

    with workflow("w") as wf:
        price >> router >> usual
        wf.add(handler)
    assert (await engine.execute(wf, start=price))[handler] == "refund 10"


async def test_a_result_is_handed_on_from_the_maker_of_a_task(engine: WorkflowEngine) -> None:
    """Rule 30: a dynamic task reads its maker, and what leads to its maker."""

    @task
    async def extra(price: int, maker: str) -> str:
        return f"{maker} {price}"

    @task
    async def maker(ctx: TaskContext) -> str:
        ctx.next_task(extra)
        return "made"

    assert (await engine.execute(price >> maker))["extra"] == "made 10"


async def test_makers_of_makers_lead_here_too(engine: WorkflowEngine) -> None:
    """Rule 30: along any number of makers, as along any number of edges."""

    @task
    async def grandchild(price: int, maker: str, child: str) -> str:
        return f"{price} {maker} {child}"

    @task
    async def child(ctx: TaskContext) -> str:
        ctx.next_task(grandchild)
        return "child"

    @task
    async def maker(ctx: TaskContext) -> str:
        ctx.next_task(child)
        return "maker"

    assert (await engine.execute(price >> maker))["grandchild"] == "10 maker child"


async def test_a_maker_in_the_last_visit_of_a_group_is_forgotten(engine: WorkflowEngine) -> None:
    """Rule 30: the maker is the task that made this one in the present visit of their group."""
    visited = asyncio.Event()

    @task
    async def extra(odd: str = "-", even: str = "-") -> str:
        return odd + even

    @task
    async def member(ctx: TaskContext) -> str:
        if (ctx.cycle % 2 == 1) == (ctx.task_id == "odd"):
            ctx.next_task(extra)
        return ctx.task_id

    @task
    async def after() -> None:
        visited.set()

    @task
    async def again(ctx: TaskContext) -> None:
        await visited.wait()
        ctx.goto("group")

    with workflow("w") as wf:
        parallel(member.clone("odd"), member.clone("even"), name="group") >> after
        wf.add(again)
    assert (await engine.execute(wf))["extra"] == "-even"


async def test_members_made_for_items_read_what_leads_to_their_group(engine: WorkflowEngine) -> None:
    """Rule 30: along edges, along a goto, and an error too: what leads to a mapped group leads to its members."""

    @task
    async def router(ctx: TaskContext) -> str:
        ctx.goto("items")
        return "router"

    @task
    async def items() -> list[int]:
        return [1, 2]

    @task
    async def each(item: int, router: str, price: int) -> str:
        return f"{item} {router} {price}"

    with workflow("w") as wf:
        wf.add(price >> router, items >> each.map(items))
    assert (await engine.execute(wf, start=price))["each"] == ["1 router 10", "2 router 10"]


async def test_an_error_reaches_the_first_task_of_each_branch(engine: WorkflowEngine) -> None:
    """Rules 2 and 30: for the first task of a branch, what leads to it is what leads to the group."""

    @task
    async def people() -> list[str]:
        return ["ann", "bob"]

    @task
    async def fails(people: list[str]) -> None:
        raise ValueError("fire")

    @task
    async def tell(person: str, error: TaskError) -> str:
        return f"{person}: {error.message}"

    for members in (tell.map(people), parallel(tell.clone("a", person="ann"), tell.clone("b", person="bob"), name="tell")):
        with workflow("w") as wf:
            people >> fails
            wf.add_edge(fails, members, on="failure")
        assert (await engine.execute(wf))["tell"] == ["ann: fire", "bob: fire"]


async def test_gotos_and_makers_lead_on_together(engine: WorkflowEngine) -> None:
    """Rule 30: to a task, by a goto, to its maker."""

    @task
    async def extra(router: str) -> str:
        return f"extra of {router}"

    @task
    async def maker(ctx: TaskContext) -> None:
        ctx.next_task(extra)

    @task
    async def router(ctx: TaskContext) -> str:
        ctx.goto(maker)
        return "router"

    with workflow("w") as wf:
        wf.add(router, maker)
    assert (await engine.execute(wf, start=router))["extra"] == "extra of router"


async def test_any_result_can_be_asked_for(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: ``result_of`` reads any result by task or id, also of a group, and says what it does not find."""
    (a, b, beside) = steps("a b beside")
    group = parallel(a, b, name="group")

    @task
    async def reader(ctx: TaskContext) -> list[Any]:
        with pytest.raises(UnknownTaskError, match="nobody"):
            await ctx.result_of("nobody")
        with pytest.raises(MissingArgumentError):
            await ctx.result_of("reader")
        return [await ctx.result_of(beside), await ctx.result_of("a"), await ctx.result_of(group)]

    with workflow("w") as wf:
        beside >> group
        group >> reader
    assert (await engine.execute(wf))[reader] == ["beside", "a", ["a", "b"]]


# ---- rule 30: the only predecessor ---------------------------------------------------------------------------------


@task
async def show(what: str) -> str:
    return f"shows {what}"


async def test_the_only_predecessor_is_the_only_one_whose_edge_fired(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: of two that lead here, the one that was taken."""
    left, right = steps("left right")

    @task
    async def choose(ctx: TaskContext) -> None:
        ctx.goto(right)

    with workflow("w") as wf:
        choose >> left >> show
        choose >> right >> show
    assert (await engine.execute(wf)).output == "shows right"


async def test_of_two_that_fired_neither_is_the_only_one(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: where both were taken, the parameter must bear a name."""
    left, right = steps("left right")
    with workflow("w") as wf:
        left >> show
        right >> show
    error = await missing(engine, wf)
    assert error.available == ("left", "right")


async def test_in_each_round_of_a_loop_it_is_whoever_led_into_that_round(engine: WorkflowEngine, steps: Steps, log: list[str]) -> None:
    """Rule 30: the first time the header comes after what is before the loop, then after the last task of the round."""
    begin, tool = steps("begin tool")

    @task
    async def agent(ctx: TaskContext, seen: str) -> None:
        log.append(f"agent sees {seen}")
        if ctx.cycle == 2:
            ctx.end_loop()

    await engine.execute(begin >> agent >> tool >> agent)
    assert log == ["begin", "agent sees begin", "tool", "agent sees tool"]


async def test_of_two_that_led_into_a_round_neither_is_the_only_one(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: two back edges fired, so the header of the second round has no only predecessor."""
    begin, left, right = steps("begin left right")
    with workflow("w") as wf:
        begin >> show >> left >> show
        show >> right >> show
    assert (await missing(engine, wf)).task_id == "show"


async def test_for_the_first_task_of_a_branch_it_is_that_of_the_group(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: however deep the groups are nested."""
    (begin,) = steps("begin")
    inner = parallel(show, show.clone("second"), name="inner")
    result = await engine.execute(begin >> parallel(inner, show.clone("third"), name="outer"))
    assert result["outer"] == [["shows begin", "shows begin"], "shows begin"]


async def test_after_a_goto_it_is_the_task_that_went(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: also where edges lead to the target, and where it has run before."""
    begin, between = steps("begin between")

    @task
    async def back(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            ctx.goto(show)
        return "back"

    with workflow("w") as wf:
        begin >> show >> between >> back
    assert (await engine.execute(wf))[show] == "shows back"


async def test_after_a_goto_out_of_a_group_it_is_the_member_that_went(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: the group carries the goto out, and the member has something to say."""
    other, usual = steps("other usual")

    @task
    async def member(ctx: TaskContext) -> str:
        ctx.goto("rooms")
        return "member"

    with workflow("w") as wf:
        (member | other) >> usual
        parallel(show, show.clone("other room"), name="rooms")
    assert (await engine.execute(wf, start="member|other"))["rooms"] == ["shows member", "shows member"]


async def test_for_a_new_task_it_is_its_maker(engine: WorkflowEngine, steps: Steps) -> None:
    """Rule 30: so a task can be handed a value by making it."""

    @task
    async def maker(ctx: TaskContext) -> str:
        ctx.next_task(show)
        return "what was made"

    assert (await engine.execute(maker))["show"] == "shows what was made"


async def test_a_failed_task_is_never_passed_on_as_a_value(engine: WorkflowEngine) -> None:
    """Design 3: the target of a failure edge takes the error, if it asks for it, and no result."""

    @task
    async def fails() -> str:
        raise ValueError("no")

    @task
    async def handler(error: TaskError, fails: str = "no result") -> str:
        return f"{fails}: {error.message}"

    with workflow("w") as wf:
        wf.add_edge(fails, handler, on="failure")
        wf.add_edge(fails, show, on="failure")
    assert (await missing(engine, wf)).task_id == "show"
    with workflow("w") as wf:
        wf.add_edge(fails, handler, on="failure")
    assert (await engine.execute(wf)).output == "no result: no"


async def test_the_error_of_a_round_is_handed_on_along_a_back_edge(engine: WorkflowEngine, log: list[str]) -> None:
    """Rules 2 and 30: a failure edge that leads back brings the error into the next round."""

    @task
    async def prepare(error: TaskError | None) -> None:
        log.append("prepare" if error is None else f"prepare again, after {error.message}")

    @task
    async def work(ctx: TaskContext) -> str:
        if ctx.cycle == 1:
            raise ValueError("a full disk")
        return "done"

    with workflow("w") as wf:
        prepare >> work
        wf.add_edge(work, prepare, on="failure")
    assert (await engine.execute(wf))[work] == "done"
    assert log == ["prepare", "prepare again, after a full disk"]


# ---- conversion ----------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Address(msgspec.Struct):
    street: str


class Options(TypedDict):
    fast: bool


@dataclasses.dataclass
class Order:
    number: int
    address: Address
    day: datetime.date


async def test_values_are_converted_to_the_annotation(engine: WorkflowEngine) -> None:
    """Design 3: what comes as plain data becomes a dataclass, a Struct, a TypedDict, an enum or a date."""

    @task
    async def order(order: Order, colour: Colour, at: datetime.datetime, options: Options) -> tuple[Any, ...]:
        return order, colour, at, options

    plain = {"number": 1, "address": {"street": "Rue A"}, "day": "2026-11-21"}
    result = await engine.execute(
        order.clone("convert"), inputs={"order": plain, "colour": "red", "at": "2026-11-21T12:00:00Z", "options": {"fast": True}}
    )
    noon = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
    assert result.output == (Order(1, Address("Rue A"), datetime.date(2026, 11, 21)), Colour.RED, noon, {"fast": True})


async def test_a_dataclass_survives_from_task_to_task(engine: WorkflowEngine) -> None:
    """Design 3: a result arrives as what it was, in strict mode and on other machines too."""

    @task
    async def make() -> Order:
        return Order(1, Address("Rue A"), datetime.date(2026, 11, 21))

    @task
    async def read(make: Order) -> str:
        return f"{make.number} to {make.address.street}"

    assert (await engine.execute(make >> read)).output == "1 to Rue A"


@pytest.mark.parametrize("given", ["inputs", "a result", "a bound argument"])
async def test_a_value_that_does_not_fit_fails_the_step(engine: WorkflowEngine, given: str) -> None:
    """Design 3: with the task, the parameter, what was expected and what was got."""

    @task
    async def word() -> str:
        return "ten"

    @task
    async def double(n: int) -> int:
        return n * 2

    graph = {"inputs": double, "a result": word >> double, "a bound argument": double.bind(n="ten")}[given]
    with pytest.raises(TaskFailedError) as failed:
        await engine.execute(graph, inputs={"n": "ten"} if given == "inputs" else None)
    error = failed.value.__cause__
    assert isinstance(error, ArgumentTypeError)
    assert (error.task_id, error.parameter, error.expected, error.got) == ("double", "n", "int", "str")
