"""Tasks in containers: they run, talk to their run, and find nothing around them that they should not have."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graflow import WorkflowEngine, parallel, workflow
from graflow.errors import TaskFailedError
from graflow.handlers import DockerHandler
from tests.docker import engines, flows

Make = Callable[..., DockerHandler]


async def test_functions_run_in_a_container_be_they_async_or_not(engine: WorkflowEngine) -> None:
    result = await engine.execute(parallel(flows.double, flows.double_async), inputs={"n": 4})
    assert result.output == [8, 8]


async def test_every_attempt_has_a_container_of_its_own(engine: WorkflowEngine) -> None:
    result = await engine.execute(parallel(flows.hostname.clone("a"), flows.hostname.clone("b")))
    assert len({*result.output, (await engine.execute(flows.hostname)).output}) == 3


async def test_a_task_in_a_container_takes_the_result_of_one_outside(engine: WorkflowEngine) -> None:
    with workflow("mixed") as wf:
        wf.add(parallel(flows.double, flows.local) >> flows.add_up)
    assert (await engine.execute(wf, inputs={"n": 4})).output == 13


async def test_the_context_works_without_a_network(engine: WorkflowEngine, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), workflow("talk") as wf:
        wf.add(flows.talk >> flows.talk_async)
    async with await engine.submit(wf, inputs={"n": 4, "count": 1}) as handle:
        events = [(event.type, event.data) async for event in handle.events()]
        result = await handle.result()
    assert result["talk"] == 1
    assert result["talk_async"] == {"n": 4}
    assert [data for kind, data in events if kind == "progress"] == [{"done": 1, "total": 2, "message": "half"}]
    assert [data for kind, data in events if kind == "message"] == [{"name": "token", "data": {"n": 4}}]


async def test_what_it_logs_and_prints_is_logged_here(handler: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with WorkflowEngine(handlers={"docker": handler()}) as engine:
            await engine.execute(flows.talk, inputs={"n": 4}, run_id="loud")
    said = {(record.name, record.getMessage()): record for record in caplog.records}
    assert said["flows.talk", "said 4"].levelname == "WARNING"
    assert said["graflow.task.output", "printed 4"].__dict__["run_id"] == "loud"
    assert said["graflow.task.output", "from C"].__dict__["stream"] == "stderr"


async def test_an_error_is_raised_here_with_the_traceback_of_there(engine: WorkflowEngine) -> None:
    with pytest.raises(TaskFailedError) as caught:
        await engine.execute(flows.fail, inputs={"n": 4})
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) == "no 4"
    assert "in fail" in (caught.value.remote_traceback or "")


async def test_a_failed_attempt_is_retried_in_another_container(engine: WorkflowEngine) -> None:
    assert (await engine.execute(flows.fail_twice)).output == 3


# ---- walls -------------------------------------------------------------------------------------------------------------


async def test_the_walls_stand_as_seen_from_within(handler: Make) -> None:
    confined = handler(memory="64m", cpus=0.5, pids=40)
    async with WorkflowEngine(handlers={"docker": confined}) as engine:
        found = (await engine.execute(flows.walls)).output
    assert (found["uid"], found["gid"], found["groups"]) in ((65534, 65534, []), (65534, 65534, [65534]))
    assert found["capabilities"] == [0] * 5
    assert found["no_new_privileges"] == "1"
    assert found["interfaces"] == ["lo"]
    assert found["errors"] == {
        "/here": "Read-only file system",
        "/usr/here": "Read-only file system",
        "/graflow/here": "Read-only file system",
        "/graflow/code/tests/here": "Read-only file system",
        "exec": "PermissionError",
        "connect": "Network is unreachable",
    }
    assert "ro" in found["mounts"]["/"]
    assert {"rw", "nosuid", "noexec"} <= set(found["mounts"]["/tmp"])
    limits = found["limits"]
    assert limits["memory"] == str(64 << 20)
    assert limits["swap"] in (str(64 << 20), "0", None)  # of memory and swap together, of swap alone, or not counted by this kernel
    assert limits["pids"] == "40"
    assert limits["cpu"] in ("50000", "50000 100000")


async def test_a_fork_bomb_meets_the_limit_of_processes(handler: Make) -> None:
    async with WorkflowEngine(handlers={"docker": handler(pids=20)}) as engine:
        assert 5 < (await engine.execute(flows.fork_bomb)).output < 20


async def test_orphans_of_a_task_are_reaped(engine: WorkflowEngine) -> None:
    assert (await engine.execute(flows.leave_orphans)).output == 0


async def test_walls_can_be_opened(handler: Make) -> None:
    tmpfs = {"/tmp": "rw,exec,size=10m", "/scratch": "rw,mode=1777,size=10m"}
    opened = handler(user="0:0", read_only=False, tmpfs=tmpfs, cap_drop=(), cap_add=("NET_RAW",), security_opt=())
    async with WorkflowEngine(handlers={"docker": opened}) as engine:
        found = (await engine.execute(flows.walls)).output
        written = (await engine.execute(flows.write_file, inputs={"path": "/scratch/file", "text": "x"})).output
    assert found["uid"] == 0
    assert found["capabilities"][2] != 0
    assert found["no_new_privileges"] == "0"
    assert set(found["errors"]) == {"/graflow/code/tests/here", "connect"}
    assert written == "written"


# ---- surroundings ------------------------------------------------------------------------------------------------------


async def test_variables_are_those_that_were_given(handler: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "x")
    async with WorkflowEngine(handlers={"docker": handler(environment={"MODE": "fast = very"})}) as engine:
        found = (await engine.execute(flows.variables)).output
    assert found["MODE"] == "fast = very"
    assert "SECRET_OF_THE_WORKER" not in found


@pytest.fixture
def directories(tmp_path: Path) -> Path:
    """``models``, with a file in it, and ``out``, for everybody to write to."""
    for name in ("models", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(0o777)
    (tmp_path / "models/weights").write_text("7")
    return tmp_path


async def test_directories_are_mounted_as_they_were_asked_for(handler: Make, directories: Path) -> None:
    volumes = {
        str(directories / "models"): {"bind": "/models", "mode": "ro"},
        str(directories / "out"): {"bind": "/out", "mode": "rw"},
    }
    async with WorkflowEngine(handlers={"docker": handler(volumes=volumes)}) as engine:
        assert (await engine.execute(flows.read_file, inputs={"path": "/models/weights"})).output == "7"
        assert (await engine.execute(flows.write_file, inputs={"path": "/models/x", "text": ""})).output == "Read-only file system"
        assert (await engine.execute(flows.write_file, inputs={"path": "/out/x", "text": "8"})).output == "written"
        assert (await engine.execute(flows.read_file, inputs={"path": "/out/x"})).output == "8"


async def test_containers_say_whose_they_are(handler: Make, docker: engines.Engine, eventually: Callable[..., Any]) -> None:
    async with WorkflowEngine(handlers={"docker": handler(labels={"team": "search"})}) as engine:
        handle = await engine.submit(flows.sleep, inputs={"seconds": 60}, run_id="run/1")
        (found,) = (await eventually(lambda: docker.containers("graflow.run=run/1"))).values()
        await handle.cancel("seen")
    labels = found["Labels"]
    assert labels["team"] == "search"
    assert (labels["graflow.task"], labels["graflow.attempt"]) == ("sleep", "1")
    assert {"graflow.host", "graflow.place", "graflow.worker", "graflow.token", "graflow.process"} <= set(labels)
    assert found["Names"][0].startswith("/graflow-run-1-sleep-1-")


async def test_a_warm_container_gets_the_name_of_its_task(handler: Make, docker: engines.Engine, eventually: Callable[..., Any]) -> None:
    warm = handler(prewarm=1, packages=["tests"])
    async with WorkflowEngine(handlers={"docker": warm}) as engine:
        await eventually(lambda: warm.warm)
        async with await engine.submit(flows.sleep, inputs={"seconds": 60}, run_id="named") as handle:
            named = await eventually(
                lambda: [each for each in docker.containers().values() if each["Names"][0].startswith("/graflow-named-sleep-1-")]
            )
            assert named[0]["Labels"]["graflow.token"].startswith(named[0]["Names"][0].rpartition("-")[2])
            await handle.cancel("seen")


# ---- kept ready --------------------------------------------------------------------------------------------------------


async def test_containers_are_kept_ready_and_used_once(handler: Make, eventually: Callable[..., Any], docker: engines.Engine) -> None:
    warm = handler(prewarm=2, packages=["tests"])
    async with WorkflowEngine(handlers={"docker": warm}) as engine:
        await eventually(lambda: warm.warm == 2)
        ready = await asyncio.to_thread(docker.containers)
        hosts = [(await engine.execute(flows.hostname)).output for _ in range(2)]
        assert len(set(hosts)) == 2
        assert all(any(each.startswith(host) for each in ready) for host in hosts)
        await eventually(lambda: warm.warm == 2)


async def test_containers_that_were_made_without_the_code_of_a_task_are_replaced(handler: Make, eventually: Callable[..., Any]) -> None:
    warm = handler(prewarm=1)
    async with WorkflowEngine(handlers={"docker": warm}) as engine:
        await eventually(lambda: warm.warm == 1)
        assert (await engine.execute(flows.double, inputs={"n": 2})).output == 4
        await eventually(lambda: warm.warm == 1)
        assert (await engine.execute(flows.double, inputs={"n": 3})).output == 6


async def test_a_container_that_dies_while_it_waits_is_replaced(
    handler: Make, docker: engines.Engine, eventually: Callable[..., Any]
) -> None:
    warm = handler(prewarm=1, packages=["tests"])
    async with WorkflowEngine(handlers={"docker": warm}) as engine:
        await eventually(lambda: warm.warm == 1)
        (first,) = await asyncio.to_thread(docker.containers)
        await asyncio.to_thread(docker.remove, first)
        await eventually(lambda: warm.warm == 1 and first not in docker.containers())
        assert (await engine.execute(flows.double, inputs={"n": 2})).output == 4


async def test_a_container_can_be_used_for_many_tasks(handler: Make) -> None:
    async with WorkflowEngine(handlers={"docker": handler(isolation="worker", concurrency=2)}) as engine:
        hosts = {(await engine.execute(flows.hostname)).output for _ in range(3)}
        assert len(hosts) == 1
        with pytest.raises(TaskFailedError):
            await engine.execute(flows.fail, inputs={"n": 1})
        assert (await engine.execute(flows.hostname)).output in hosts  # what only raised has broken nothing
        many = await engine.execute(parallel(*(flows.hostname.clone(f"h{n}") for n in range(6))))
        assert len(set(many.output)) <= 2


async def test_a_container_that_was_broken_is_not_used_again(handler: Make) -> None:
    async with WorkflowEngine(handlers={"docker": handler(isolation="worker", concurrency=1)}) as engine:
        first = (await engine.execute(flows.hostname)).output
        with pytest.raises(TaskFailedError):
            await engine.execute(flows.leave, inputs={"code": 3})
        second = (await engine.execute(flows.hostname)).output
        assert second != first
        with pytest.raises(TaskFailedError):
            await engine.execute(flows.sleep_too_long)
        assert (await engine.execute(flows.hostname)).output != second


async def test_large_values_survive_the_way(engine: WorkflowEngine) -> None:
    assert (await engine.execute(flows.large, inputs={"size": 3 << 20})).output == b"x" * (3 << 20)
