"""The process handler: what a task finds in a child, and what becomes of children."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from graflow import WorkflowEngine, parallel, task, workflow
from graflow.backends.memory import MemoryBackend
from graflow.errors import (
    ChannelTypeError,
    ChildDiedError,
    ConfigurationError,
    OutputLimitError,
    SerializationError,
    TaskFailedError,
    TaskTimeoutError,
)
from graflow.handlers import ProcessHandler
from tests.engine.support import turns, until
from tests.handlers import work
from tests.handlers.plain import PlainChildren, only_the_tests


@pytest.fixture
async def handler() -> ProcessHandler:
    return ProcessHandler(2)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return only_the_tests(tmp_path)


@pytest.fixture(params=["a child with Graflow", "a plain Python"])
async def either(request: pytest.FixtureRequest, code: Path) -> AsyncIterator[WorkflowEngine]:
    """Engines whose children have Graflow installed, and have nothing but Python."""
    handler = ProcessHandler(2) if request.param == "a child with Graflow" else PlainChildren(code)
    async with WorkflowEngine(MemoryBackend(strict=True), handlers={"process": handler}) as engine:
        yield engine


@pytest.fixture
async def engine(handler: ProcessHandler) -> AsyncIterator[WorkflowEngine]:
    async with WorkflowEngine(MemoryBackend(strict=True), handlers={"process": handler}) as engine:
        yield engine
    assert handler.children == ()
    assert handler.at_work == 0


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


async def failure(engine: WorkflowEngine, graph: Any, **inputs: Any) -> TaskFailedError:
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(graph, inputs=inputs)
    return caught.value


# ---- calling -----------------------------------------------------------------------------------------------------------


async def test_a_function_runs_in_another_process(either: WorkflowEngine) -> None:
    assert (await either.execute(work.who)).output != os.getpid()


async def test_a_coroutine_function_is_run_to_its_end_there(either: WorkflowEngine) -> None:
    assert (await either.execute(work.add_async, inputs={"a": 2})).output == 3


async def test_parameters_by_position_only_are_filled(either: WorkflowEngine) -> None:
    assert (await either.execute(work.positional, inputs={"a": 1, "c": 3})).output == [1, 5, 3]


async def test_types_survive_there_and_back(either: WorkflowEngine) -> None:
    value = {"a": (1, 2), 3: {4, 5}, "colour": work.Colour.RED, "point": work.Point(1, [2]), "large": 1 << 80}
    assert (await either.execute(work.echo, inputs={"value": value})).output == value
    assert (await either.execute(work.point, inputs={"value": work.Point(1, [])})).output == work.Point(2, [1])


async def test_a_child_is_used_again(engine: WorkflowEngine, handler: ProcessHandler) -> None:
    first = (await engine.execute(work.who)).output
    assert (await engine.execute(work.who)).output == first
    assert handler.children == (first,)


async def test_members_of_a_group_run_in_children_at_the_same_time(engine: WorkflowEngine, handler: ProcessHandler) -> None:
    result = await engine.execute(parallel(work.add.clone("one", a=1), work.add.clone("two", a=2), work.add.clone("three", a=3)))
    assert result.output == [2, 3, 4]
    assert len(handler.children) == 2


async def test_children_can_be_started_ahead_of_their_first_use() -> None:
    handler = ProcessHandler(2, prewarm=2)
    async with WorkflowEngine(handlers={"process": handler}):
        async with asyncio.timeout(30):
            while len(handler.children) < 2:  # noqa: ASYNC110 - processes start by themselves
                await asyncio.sleep(0.01)
    assert handler.children == ()


async def test_a_child_has_the_variables_that_it_was_given() -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1, environment={"SHOP": "north"})}) as engine:
        assert (await engine.execute(work.environment, inputs={"name": "SHOP"})).output == "north"
        assert (await engine.execute(work.environment, inputs={"name": "PATH"})).output == os.environ["PATH"]


# ---- context -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("using", [work.use_channel, work.use_channel_blocking])
async def test_the_channel_works_from_there(either: WorkflowEngine, using: Any) -> None:
    result = await either.execute(using)
    assert result.output == [(1, 2), 7, 2, ["list", "n", "tuple"]]


async def test_threads_of_a_task_can_ask_at_the_same_time(either: WorkflowEngine) -> None:
    assert (await either.execute(work.asks_from_threads)).output == 8


async def test_an_error_of_the_channel_is_raised_in_the_task(engine: WorkflowEngine) -> None:
    error = await failure(engine, work.wrong_append)
    assert isinstance(error.__cause__, ChannelTypeError)
    assert error.__cause__.key == "k"


async def test_results_and_identity_are_known_there(either: WorkflowEngine) -> None:
    result = await either.execute(work.add.bind(a=1) >> work.reads_result)
    assert result.results["reads_result"][:4] == (2, 1, 1, "reads_result")


async def test_what_a_task_tells_reaches_the_events_and_the_log(either: WorkflowEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    handle = await either.submit(work.tells, run_id="r")
    assert (await handle.result()).output == "r:tells:1"
    told = [(event.type, event.data) async for event in handle.events() if event.type in ("progress", "message")]
    assert told == [
        ("progress", {"done": 1, "total": 2, "message": "half"}),
        ("message", {"name": "token", "data": {"t": (1, 2)}}),
    ]
    records = {record.getMessage(): record for record in caplog.records}
    assert records["seen 3"].levelname == "WARNING"
    assert (records["seen 3"].run_id, records["seen 3"].task_id, records["seen 3"].shop) == ("r", "tells", "north")  # type: ignore[attr-defined]
    assert records["broken"].name == "shop"
    assert records["broken"].colour == work.Colour.RED  # type: ignore[attr-defined]
    for line in ("printed, with umlaut ä", "no end of line"):
        assert records[line].name == "graflow.task.output"
        assert records[line].task_id == "tells"  # type: ignore[attr-defined]


async def test_what_c_code_and_child_processes_print_is_logged(engine: WorkflowEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await engine.execute(work.tells)
    async with asyncio.timeout(10):
        while not {"from C", "from a child"} <= {record.getMessage() for record in caplog.records}:  # noqa: ASYNC110 - another pipe
            await asyncio.sleep(0.01)


async def test_a_task_can_iterate_and_go_elsewhere(either: WorkflowEngine) -> None:
    assert (await either.execute(work.counts)).output == 3
    result = await either.execute(work.goes >> work.passed_over >> work.landing)
    assert result.results["landing"] == "landed"
    assert "passed_over" not in result.results


async def test_a_task_can_add_a_task_to_its_run(engine: WorkflowEngine) -> None:
    assert (await engine.execute(work.adds_a_task)).results["added"] == 41


async def test_a_task_can_ask_to_be_tried_again_later(either: WorkflowEngine) -> None:
    assert (await either.execute(work.later)).output == 2


# ---- errors ------------------------------------------------------------------------------------------------------------


async def test_what_a_task_raises_is_raised_here_with_the_traceback_of_there(either: WorkflowEngine) -> None:
    error = await failure(either, work.raises)
    assert isinstance(error.__cause__, work.Declined)
    assert error.__cause__.reason == "stolen"
    assert error.error_type == "tests.handlers.work.Declined"
    assert 'raise Declined("4242", reason="stolen")' in error.remote_traceback
    assert "inside/" not in error.remote_traceback


async def test_an_error_of_a_class_that_is_not_known_here_keeps_its_name_and_what_it_extends(either: WorkflowEngine) -> None:
    error = await failure(either, work.raises_unknown)
    assert error.error_type == "nowhere.Homemade"
    assert isinstance(error.__cause__, LookupError)
    assert "gone" in str(error)


async def test_notes_and_attributes_of_an_error_come_along_but_for_what_cannot_travel(either: WorkflowEngine) -> None:
    cause: Any = (await failure(either, work.declines.bind(known=True))).__cause__
    assert (type(cause), str(cause), cause.reason, cause.__notes__) == (work.Cluttered, "no", "limit", ["card 17"])
    assert not hasattr(cause, "lock")


async def test_an_error_of_a_class_that_is_not_known_here_keeps_its_notes(either: WorkflowEngine) -> None:
    cause: Any = (await failure(either, work.declines.bind(known=False))).__cause__
    assert cause.__notes__ == ["card 17"]


async def test_an_error_that_has_no_text_is_told_all_the_same(either: WorkflowEngine) -> None:
    assert "Odd" in (await failure(either, work.raises_odd)).error_type


@pytest.mark.parametrize("how", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
async def test_a_task_that_tries_to_leave_has_failed_and_its_child_goes_on(
    engine: WorkflowEngine, handler: ProcessHandler, how: str
) -> None:
    error = await failure(engine, work.leaves, how=how)
    assert error.error_type == how
    assert len(handler.children) == 1


async def test_a_result_that_cannot_travel_is_named(engine: WorkflowEngine) -> None:
    error = await failure(engine, work.unsendable)
    assert isinstance(error.__cause__, SerializationError)
    assert error.__cause__.path == 'result of unsendable["a"][0]'


async def test_an_error_of_its_own_class_is_retried_as_the_policy_says(either: WorkflowEngine) -> None:
    assert (await either.execute(work.third_time)).output == 3


async def test_a_log_record_that_cannot_be_made_fails_nothing(either: WorkflowEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert (await either.execute(work.logs_badly)).output == "went on"
    assert any("a log record could not be made (TypeError" in record.getMessage() for record in caplog.records)


async def test_bytes_can_be_printed(either: WorkflowEngine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await either.execute(work.writes_bytes)
    assert "bytes ä" in [record.getMessage() for record in caplog.records]


async def test_a_result_that_cannot_travel_is_the_same_error_wherever_it_was_made(either: WorkflowEngine) -> None:
    cause = (await failure(either, work.returns_a_lock)).__cause__
    assert isinstance(cause, SerializationError)
    assert (cause.path, cause.type_name) == ("result of returns_a_lock", "_thread.lock")


async def test_what_the_channel_raises_has_its_own_class_there(either: WorkflowEngine) -> None:
    serialization, wrong_type = (await either.execute(work.meets_errors_of_the_channel)).output
    assert serialization == ["graflow.errors", "SerializationError", "GF401", ""]
    assert wrong_type == ["graflow.errors", "ChannelTypeError", "GF304", "number"]


async def test_the_errors_have_their_parents_codes_and_fields_there(either: WorkflowEngine) -> None:
    assert (await either.execute(work.knows_the_errors)).output == [True, True, "GF202", "g", "no"]


async def test_a_blocking_channel_is_not_taken_for_a_typed_one_there(either: WorkflowEngine) -> None:
    assert (await failure(either, work.types_a_blocking_channel)).error_type == "TypeError"


async def test_a_directive_that_cannot_travel_fails_the_task_and_not_its_child(either: WorkflowEngine) -> None:
    assert (await failure(either, work.cancels_with_an_object)).error_type == "TypeError"


async def test_a_name_that_was_registered_and_a_status_are_what_they_are_there(either: WorkflowEngine) -> None:
    assert (await either.execute(work.takes_a_name_of_status)).output is True
    assert (await either.execute(work.registered, inputs={"n": 1})).output == 2


async def test_a_copy_that_a_task_forks_answers_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with WorkflowEngine(handlers={"process": ProcessHandler(1)}) as engine:
        assert (await engine.execute(work.forks >> work.waits_for_the_copy)).output == ["the task", "its own answer"]
        assert (await engine.execute(work.add, inputs={"a": 1})).output == 2
    assert "said by a copy" in [record.getMessage() for record in caplog.records]


async def test_requests_beyond_all_measure_are_refused(engine: WorkflowEngine) -> None:
    (told,) = (await engine.execute(work.asks_too_much)).output
    assert "requests at once" in told


# ---- death -------------------------------------------------------------------------------------------------------------


async def test_an_exit_code_is_told_and_the_child_is_replaced(engine: WorkflowEngine) -> None:
    error = (await failure(engine, work.exits, code=7)).__cause__
    assert isinstance(error, ChildDiedError)
    assert (error.exit_code, error.signal, error.task_id) == (7, None, "exits")
    assert (await engine.execute(work.add, inputs={"a": 1})).output == 2


async def test_a_signal_is_told(engine: WorkflowEngine) -> None:
    error = (await failure(engine, work.killed)).__cause__
    assert isinstance(error, ChildDiedError)
    assert (error.exit_code, error.signal) == (None, "SIGKILL")


async def test_a_crash_in_c_code_shows_where_the_task_was(engine: WorkflowEngine) -> None:
    failed = await failure(engine, work.crashes)
    error = failed.__cause__
    assert isinstance(error, ChildDiedError)
    assert error.signal == "SIGSEGV"
    assert "in crashes" in failed.remote_traceback


async def hung(engine: WorkflowEngine, handle: Any) -> list[int]:
    """The processes of a task that hangs, once it does."""
    pids: list[int] = await engine.backend.coordinator.channel(handle.run_id).wait("pids", 30)
    return pids


async def all_gone(pids: list[int]) -> None:
    async with asyncio.timeout(10):
        while await asyncio.to_thread(any, map(is_running, pids)):  # noqa: ASYNC110 - nobody tells of a stranger's end
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("stuck", [work.hangs, work.holds_the_gil])
async def test_a_cancelled_task_is_killed_with_all_that_it_has_started(engine: WorkflowEngine, stuck: Any) -> None:
    handle = await engine.submit(stuck)
    pids = await hung(engine, handle)
    await handle.cancel("enough")
    await all_gone(pids)
    assert (await engine.execute(work.add, inputs={"a": 1})).output == 2


async def test_a_timeout_kills_the_child(engine: WorkflowEngine) -> None:
    handle = await engine.submit(task("hangs_shortly", handler="process", timeout=3.0)(work.hangs.function))
    pids = await hung(engine, handle)
    with pytest.raises(TaskFailedError) as caught:
        await handle.result()
    assert isinstance(caught.value.__cause__, TaskTimeoutError)
    await all_gone(pids)


async def test_leaving_the_engine_ends_every_child(handler: ProcessHandler) -> None:
    async with WorkflowEngine(handlers={"process": handler}) as engine:
        pids = await hung(engine, await engine.submit(work.hangs))
    await all_gone(pids)
    assert handler.children == ()


# ---- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("much", [work.babbles, work.large, work.fills_the_channel, work.asks_for_what_has_a_long_name])
async def test_a_task_that_writes_more_than_it_may_is_ended(much: Any) -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1, output_limit="1m")}) as engine:
        error = (await failure(engine, much)).__cause__
        assert isinstance(error, OutputLimitError)
        assert error.limit == 1 << 20
        assert error.task_id == much.id
        assert (await engine.execute(work.add, inputs={"a": 1})).output == 2


async def test_a_task_that_asks_often_has_written_nothing() -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1, output_limit="16k")}) as engine:
        assert (await engine.execute(work.asks_often)).output == 1


async def test_a_child_is_replaced_after_so_many_calls() -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1, recycle_calls=2)}) as engine:
        pids = [(await engine.execute(work.who)).output for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_a_child_that_has_grown_is_replaced() -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1, recycle_memory="100m")}) as engine:
        small = [(await engine.execute(work.who)).output for _ in range(2)]
        grown = (await engine.execute(work.takes_memory)).output
        after = (await engine.execute(work.who)).output
    assert small == [grown, grown]
    assert after != grown


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"processes": 0}, "processes"),
        ({"processes": "2"}, "processes"),
        ({"recycle_calls": 0}, "recycle_calls"),
        ({"recycle_memory": "much"}, "recycle_memory"),
        ({"prewarm": -1}, "prewarm"),
        ({"environment": {"A": 1}}, "environment"),
        ({"start_timeout": 0}, "start_timeout"),
        ({"output_limit": 0}, "output_limit"),
        ({"timeout": -1.0}, "timeout"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ProcessHandler(**settings)
    assert caught.value.setting == setting
    assert "\n" not in str(caught.value)


async def test_the_last_words_of_a_child_are_not_those_of_an_earlier_task() -> None:
    with workflow("wake") as wf:
        wf.add(work.mutters >> work.exits)
    async with WorkflowEngine(handlers={"process": ProcessHandler(1)}) as engine:
        error = (await failure(engine, wf, code=3)).__cause__
    assert isinstance(error, ChildDiedError)
    assert error.__cause__ is None


@pytest.mark.parametrize("when", ["before", "amid"])
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells whether a dead child had begun")
async def test_a_task_does_not_fail_for_a_child_that_was_killed_while_it_was_idle(when: str) -> None:
    handler = ProcessHandler(3)
    async with WorkflowEngine(handlers={"process": handler}) as engine:
        await engine.execute(parallel(*(work.add.clone(f"add-{n}") for n in range(3))), inputs={"a": 1})
        idle = handler.children
        for pid in idle:
            os.kill(pid, signal.SIGSTOP if when == "amid" else signal.SIGKILL)
        running = asyncio.create_task(engine.execute(work.who))
        if when == "amid":  # the call lies in the pipe of a child that does not read it
            await until(lambda: handler.at_work)
            await turns(50)
            for pid in idle:
                os.kill(pid, signal.SIGKILL)
        assert (await running).output not in idle


async def test_a_task_that_has_begun_is_not_run_again_when_its_child_dies(tmp_path: Path) -> None:
    async with WorkflowEngine(handlers={"process": ProcessHandler(1)}) as engine:
        await engine.execute(work.add, inputs={"a": 1})
        error = (await failure(engine, work.killed_after_writing, path=str(tmp_path / "begun"))).__cause__
    assert isinstance(error, ChildDiedError)
    assert await asyncio.to_thread((tmp_path / "begun").read_text) == "begun\n"
