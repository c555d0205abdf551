"""What becomes of a task whose container does not come to an answer, and what is left of the container: nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from graflow import RunStatus, TaskGraph, WorkflowEngine, best_effort, parallel, workflow
from graflow.errors import (
    ChildDiedError,
    ConfigurationError,
    ContainerEngineError,
    ContainerLostError,
    FunctionNotFoundError,
    ImageNotFoundError,
    OutOfMemoryError,
    OutputLimitError,
    ParallelGroupError,
    TaskFailedError,
    TaskTimeoutError,
    WorkflowCancelledError,
)
from graflow.handlers import DockerHandler
from tests.docker import engines, flows

Make = Callable[..., DockerHandler]


async def cause(engine: WorkflowEngine, graph: Any, **inputs: Any) -> BaseException:
    """Why a task failed."""
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(graph, inputs=inputs)
    assert caught.value.__cause__ is not None
    return caught.value.__cause__


# ---- ends --------------------------------------------------------------------------------------------------------------


async def test_a_task_that_takes_too_much_memory_says_so(handler: Make) -> None:
    async with WorkflowEngine(handlers={"docker": handler(memory="32m")}) as engine:
        error = await cause(engine, flows.eat, megabytes=200)
    assert isinstance(error, OutOfMemoryError)
    assert (error.task_id, error.limit) == ("eat", 32 << 20)
    assert "32 MiB" in str(error)
    assert "memory=" in str(error)


async def test_a_container_that_ends_by_itself_says_with_what(engine: WorkflowEngine) -> None:
    error = await cause(engine, flows.leave, code=3)
    assert isinstance(error, ChildDiedError)
    assert (error.task_id, error.exit_code, error.signal) == ("leave", 3, None)
    assert "last words" in str(error.__cause__)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"user": "nosuch"}, "user"),
        ({"user": "65534:nosuch"}, "user"),
        ({"network": "container:nosuch"}, "network"),
        ({"security_opt": ["seccomp=/nosuch"]}, "security_opt"),
        ({"workdir": "/proc/1/nosuch"}, "workdir"),
    ],
)
async def test_what_the_engine_cannot_do_is_told_with_the_setting(handler: Make, settings: dict[str, Any], setting: str) -> None:
    async with WorkflowEngine(handlers={"docker": handler(**settings)}) as engine:
        error = await cause(engine, flows.double, n=1)
    assert isinstance(error, ConfigurationError)
    assert error.setting == setting
    assert str(error).count("; give") + str(error).count("; start") + str(error).count("; correct") == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"pids": 1}, "fork failed"), ({"environment": {"PYTHONHOME": "/nosuch"}}, "No module named 'encodings'")],
)
async def test_a_container_that_ends_before_any_task_blames_its_settings_and_not_the_task(
    handler: Make, settings: dict[str, Any], reason: str
) -> None:
    async with WorkflowEngine(handlers={"docker": handler(**settings)}) as engine:
        error = await cause(engine, flows.double, n=1)
    assert isinstance(error, ChildDiedError)
    assert error.exit_code == 1
    assert "before any task" in str(error)
    assert reason in str(error)
    assert f"{next(iter(settings))}=" in str(error)
    assert "os._exit" not in str(error)


@pytest.mark.parametrize("last", [flows.leave_quietly, flows.leave.bind(code=3)])
async def test_the_last_words_are_those_of_the_task_that_ended_and_not_of_one_before(
    handler: Make, caplog: pytest.LogCaptureFixture, last: Any
) -> None:
    with workflow("wake") as wf:
        wf.add(flows.mutter >> last)
    with caplog.at_level(logging.INFO):
        async with WorkflowEngine(handlers={"docker": handler(isolation="worker", concurrency=1)}) as engine:
            error = await cause(engine, wf)
    assert isinstance(error, ChildDiedError)
    assert str(error.__cause__) == ("None" if last is flows.leave_quietly else '\n"""\nlast words"""')
    said = [record.getMessage() for record in caplog.records if record.name == "graflow.task.output"]
    assert said == ["for nobody else"] * 10 + ([] if last is flows.leave_quietly else ["last words"])


@pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (9, "SIGKILL")])
async def test_a_container_that_a_signal_ends_says_which(engine: WorkflowEngine, number: int, name: str) -> None:
    error = await cause(engine, flows.kill_self, number=number)
    assert isinstance(error, ChildDiedError)
    assert error.signal == name


@pytest.mark.parametrize("task", [flows.shout, flows.shout_in_c, flows.large])
async def test_a_task_that_writes_too_much_is_ended(handler: Make, task: Any) -> None:
    async with WorkflowEngine(handlers={"docker": handler(output_limit="100k")}) as engine:
        error = await cause(engine, task, size=300_000)
    assert isinstance(error, OutputLimitError)
    assert error.limit == 100 << 10
    assert task.id in str(error)


async def test_the_container_of_a_task_that_times_out_is_gone_when_the_task_has_failed(
    engine: WorkflowEngine, docker: engines.Engine
) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(flows.sleep_too_long)
    assert isinstance(caught.value.__cause__, TaskTimeoutError)
    assert await asyncio.to_thread(docker.containers) == {}


async def test_the_time_limit_of_the_handler_is_for_tasks_without_one(handler: Make) -> None:
    async with WorkflowEngine(handlers={"docker": handler(timeout=1.0)}) as engine:
        assert isinstance(await cause(engine, flows.sleep, seconds=60), TaskTimeoutError)


async def test_the_container_of_a_run_that_is_cancelled_is_removed(
    engine: WorkflowEngine, docker: engines.Engine, eventually: Callable[..., Any]
) -> None:
    handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
    async for event in handle.events():
        if event.type == "progress":
            await handle.cancel("enough")
    with pytest.raises(WorkflowCancelledError):
        await handle.result()
    await eventually(lambda: not docker.containers())


async def test_cancelling_while_the_container_is_being_made_leaves_none(
    handler: Make, docker: engines.Engine, eventually: Callable[..., Any]
) -> None:
    async with WorkflowEngine(handlers={"docker": handler()}) as engine:
        for delay in (0.0, 0.01, 0.05, 0.1, 0.2):
            handle = await engine.submit(flows.sleep, inputs={"seconds": 60})
            await asyncio.sleep(delay)
            await handle.cancel("no")
        await eventually(lambda: not docker.containers())


async def test_leaving_the_engine_ends_what_runs(handler: Make, docker: engines.Engine) -> None:
    async with WorkflowEngine(handlers={"docker": handler()}) as engine:
        handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
        async for event in handle.events():
            if event.type == "progress":
                break
    assert await asyncio.to_thread(docker.containers) == {}


async def test_a_container_that_somebody_removes_is_lost(engine: WorkflowEngine, docker: engines.Engine) -> None:
    handle = await engine.submit(flows.sleep_after_saying, inputs={"seconds": 60})
    async for event in handle.events():
        if event.type == "progress":
            await asyncio.to_thread(docker.remove, event.data["message"])
    with pytest.raises(TaskFailedError) as caught:
        await handle.result()
    assert isinstance(caught.value.__cause__, ContainerLostError | ChildDiedError)


# ---- code --------------------------------------------------------------------------------------------------------------


async def test_code_that_is_not_in_the_image_is_not_found(handler: Make, image: str) -> None:
    async with WorkflowEngine(handlers={"docker": handler(code="image")}) as engine:
        error = await cause(engine, flows.double, n=1)
    assert isinstance(error, FunctionNotFoundError)
    assert "tests.docker" in str(error)
    assert image in str(error)
    assert "code='image'" not in str(error)


async def test_a_module_that_the_image_lacks_is_named_with_the_remedy(engine: WorkflowEngine) -> None:
    from tests.docker import needs_more

    error = await cause(engine, needs_more.count)
    assert isinstance(error, FunctionNotFoundError)
    assert "iniconfig" in str(error)
    assert "packages=" in str(error)


async def test_packages_can_be_mounted_besides(handler: Make) -> None:
    from tests.docker import needs_more

    async with WorkflowEngine(handlers={"docker": handler(packages=["iniconfig"])}) as engine:
        assert (await engine.execute(needs_more.count)).output > 0


# ---- image and engine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pull", ["never", "missing", "always"])
async def test_an_image_that_is_not_there_keeps_the_engine_from_starting(handler: Make, pull: str) -> None:
    with pytest.raises(ImageNotFoundError) as caught:
        async with WorkflowEngine(handlers={"docker": handler(image="graflow-no-such-image:1", pull=pull)}):
            pass
    assert caught.value.image == "graflow-no-such-image:1"
    assert "build or load it there" in str(caught.value)


async def test_an_engine_that_is_not_there_keeps_the_engine_from_starting(handler: Make, tmp_path: Any) -> None:
    missing = handler(host=f"unix://{tmp_path}/none.sock")
    with pytest.raises(ContainerEngineError) as caught:
        async with WorkflowEngine(handlers={"docker": missing}):
            pass
    assert caught.value.host == f"unix://{tmp_path}/none.sock"
    assert "DOCKER_HOST" in str(caught.value)
    with pytest.raises(ContainerEngineError):
        await missing.health()


async def test_the_health_of_engine_and_image_can_be_asked(handler: Make, image: str, docker: engines.Engine) -> None:
    healthy = handler()
    found = await healthy.health()
    assert found["host"] == docker.url
    assert found["engine"][0].isdecimal()
    assert (found["image"], found["image_present"]) == (image, True)
    async with WorkflowEngine(handlers={"docker": healthy}):
        assert (await healthy.health())["image_present"]
    assert not (await handler(image="graflow-no-such-image:1", pull="missing").health())["image_present"]
    with pytest.raises(ImageNotFoundError):
        await handler(image="graflow-no-such-image:1").health()


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"python": "python9"}, "python"),
        ({"gpus": "all"}, "gpus"),
        ({"volumes": {"/no/such/directory": {"bind": "/x"}}}, "volumes"),
        ({"network": "no-such-network"}, "network"),
        ({"cpus": 1000.0}, "cpus"),
        ({"cap_add": ("NO_SUCH",)}, "cap_add"),
        ({"security_opt": ("no-such-thing",)}, "security_opt"),
    ],
)
async def test_what_the_engine_refuses_names_the_setting(handler: Make, settings: dict[str, Any], setting: str) -> None:
    async with WorkflowEngine(handlers={"docker": handler(**settings)}) as engine:
        error = await cause(engine, flows.double, n=1)
    assert isinstance(error, ConfigurationError), error
    assert error.setting == setting


async def test_containers_that_cannot_be_made_ahead_are_told_and_do_not_fill_the_log(
    handler: Make, caplog: pytest.LogCaptureFixture, eventually: Callable[..., Any]
) -> None:
    async with WorkflowEngine(handlers={"docker": handler(prewarm=2, network="no-such-network")}) as engine:
        await eventually(lambda: any("made ahead" in record.getMessage() for record in caplog.records))
        assert isinstance(await cause(engine, flows.double, n=1), ConfigurationError)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) < 8


async def test_a_handler_serves_one_engine_at_a_time(handler: Make) -> None:
    shared = handler()
    async with WorkflowEngine(handlers={"docker": shared}) as engine:
        with pytest.raises(ConfigurationError, match="runs already"):
            async with WorkflowEngine(handlers={"docker": shared}):
                pass
        assert (await engine.execute(flows.double, inputs={"n": 1})).output == 2
    async with WorkflowEngine(handlers={"docker": shared}) as engine:
        assert (await engine.execute(flows.double, inputs={"n": 1})).output == 2


# ---- many --------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("isolation", ["task", "worker"])
async def test_a_storm_of_all_that_can_happen_leaves_right_outcomes_and_nothing_else(handler: Make, isolation: str) -> None:
    """10 % fail, 5 % run out of time, 5 % out of memory; a fresh container each, or 8 of them used again."""
    graph = TaskGraph("storm")
    expected: dict[str, str] = {}
    members: list[Any] = []
    for n in range(200):
        kind = {0: "fail", 1: "fail", 2: "late", 3: "eat"}.get(n % 20, "good")
        task: Any = {"fail": flows.fail, "late": flows.sleep_too_long, "eat": flows.eat, "good": flows.double}[kind]
        bound = {"fail": {"n": n}, "late": {}, "eat": {"megabytes": 200}, "good": {"n": n}}[kind]
        members.append(task.clone(f"{kind}{n}", **bound))
        expected[f"{kind}{n}"] = kind
    graph.add(parallel(*members, name="all").with_policy(best_effort))
    stormy = handler(concurrency=8, memory="48m", isolation=isolation, prewarm=4, packages=["tests"])
    async with WorkflowEngine(handlers={"docker": stormy}) as engine:
        began = time.monotonic()
        result = await engine.execute(graph, max_steps=1000)
        logging.getLogger(__name__).info("storm: %.1f s", time.monotonic() - began)
    assert result.status is RunStatus.SUCCEEDED
    kinds = {ValueError: "fail", TaskTimeoutError: "late", OutOfMemoryError: "eat"}
    found = {id: kinds.get(type(error.__cause__), repr(error)) for id, error in result.errors.items()}
    found |= {id: "good" for id in result.results if id in expected}
    assert found == expected
    assert all(result[id] == 2 * int(id.removeprefix("good")) for id, kind in expected.items() if kind == "good")


async def test_a_group_that_cannot_succeed_any_more_kills_the_others(engine: WorkflowEngine, docker: engines.Engine) -> None:
    with pytest.raises(ParallelGroupError):
        await engine.execute(parallel(flows.leave.clone("dies", code=1), flows.sleep.clone("lasts", seconds=60)))
    assert await asyncio.to_thread(docker.containers) == {}
