"""How code gets into a container: by import, from the main program, or as a signed pickle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import graflow.backends.redis.backend  # noqa: F401 - reads its scripts from files, which is nothing to do on an event loop
from graflow import TaskWorker, WorkflowEngine, task, workflow
from graflow.errors import FunctionNotFoundError, PythonVersionError, TaskFailedError
from graflow.handlers import DockerHandler
from graflow.handlers.docker import mounts
from tests.docker import engines, flows

pytest.importorskip("cloudpickle")

Make = Callable[..., DockerHandler]
KEY = "a key for tests that is long enough and of no use elsewhere"
SCRIPT = """
import asyncio, sys
import graflow.backends.redis.backend  # noqa: F401 - reads its scripts from files, which is nothing to do on an event loop
from graflow import TaskWorker, WorkflowEngine, task
from graflow.handlers import DockerHandler

FACTOR = 3

def helper(n):
    return FACTOR * n

@task(handler="docker")
def triple(n: int) -> int:
    return helper(n)

async def main(image, host):
    async with WorkflowEngine(handlers={"docker": DockerHandler(image, host=host, pull="never", memory="64m")}) as engine:
        print((await engine.execute(triple, inputs={"n": 4})).output)

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the program in it, as a script and as a module of a package."""
    (tmp_path / "program.py").write_text(SCRIPT)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/__init__.py").touch()
    (tmp_path / "shop/selling.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture
async def same_python(engine: WorkflowEngine) -> None:
    """Skip where the image has another minor version of Python, in which no pickle of here can be read."""
    there = (await engine.execute(flows.python_version)).output
    if tuple(there) != sys.version_info[:2]:
        pytest.skip(f"the image has Python {there}, so that pickles of this one cannot be read there")


@pytest.mark.parametrize("program", [["program.py"], ["-m", "shop.selling"]])
async def test_functions_of_the_main_program_run_in_a_container(
    program: list[str], folder: Path, image: str, docker: engines.Engine, nothing_left: None
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, *program, image, docker.url]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=folder, env=environment)
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"12\n")


PART = """
from graflow import task

@task(handler="docker")
def {name}() -> str:
    from corp.{other}.words import WORD
    return WORD
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Any]]:
    """Two tasks of one namespace package, each in a directory of its own; each imports from the other."""
    for place, name, other in (("ns1", "alpha", "beta"), ("ns2", "beta", "alpha")):
        folder = tmp_path / place / "corp" / name
        folder.mkdir(parents=True)
        (folder / "t.py").write_text(PART.format(name=name, other=other))
        (folder / "words.py").write_text(f"WORD = {name!r}")
        monkeypatch.syspath_prepend(tmp_path / place)
    (tmp_path / "ns1/corp/alpha/__init__.py").touch()
    yield import_module("corp.alpha.t").alpha, import_module("corp.beta.t").beta
    for module in [name for name in sys.modules if name.partition(".")[0] == "corp"]:
        del sys.modules[module]


@pytest.mark.parametrize("settings", [{}, {"prewarm": 1}, {"isolation": "worker"}])
async def test_parts_of_a_namespace_package_that_are_in_different_places_are_all_there(
    parts: tuple[Any, Any], handler: Make, settings: Any
) -> None:
    alpha, beta = parts
    async with WorkflowEngine(handlers={"docker": handler(**settings)}) as engine, asyncio.timeout(40):
        runs = [engine.execute(task) for task in (alpha, beta, alpha, beta)]
        assert [(await run).output for run in runs] == ["beta", "alpha", "beta", "alpha"]


def test_a_namespace_package_is_mounted_by_its_parts_as_imports_find_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["b/ns/same/__init__.py", "b/ns/deep/two.py", "b/ns/deep/twice.py", "b/ns/plain/x.py", "b/ns/one.py", "b/ns/notes.txt"]
    for name in ["a/ns/same/old.py", "a/ns/deep/one.py", "a/ns/deep/twice.py", "a/ns/__pycache__/x.py", *files]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for place in "ba":
        monkeypatch.syspath_prepend(tmp_path / place)
    assert {name: str(Path(path).relative_to(tmp_path)) for name, path in mounts.packages(["ns"]).items()} == {
        "ns/same": "b/ns/same",
        "ns/plain": "b/ns/plain",
        "ns/one.py": "b/ns/one.py",
        "ns/deep/one.py": "a/ns/deep/one.py",
        "ns/deep/two.py": "b/ns/deep/two.py",
        "ns/deep/twice.py": "a/ns/deep/twice.py",
    }


def test_a_namespace_package_in_one_place_is_mounted_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alone/inner").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert mounts.packages(["alone"]) == {"alone": str(tmp_path / "alone")}


async def test_a_function_without_a_name_runs_in_a_container_where_there_is_a_key(handler: Make, same_python: None) -> None:
    factor = 5

    @task(handler="docker")
    def times(n: int) -> int:
        return factor * n

    async with WorkflowEngine(handlers={"docker": handler()}, secret_key=KEY) as engine:
        assert (await engine.execute(times, inputs={"n": 4})).output == 20


async def test_a_function_without_a_name_travels_to_the_container_of_a_worker(handler: Make, same_python: None, redis_url: str) -> None:
    factor = 7

    @task(handler="docker")
    def times(n: int) -> int:
        return factor * n

    async with TaskWorker(redis_url, handlers={"docker": handler()}, secret_key=KEY), WorkflowEngine(redis_url, secret_key=KEY) as engine:
        assert (await engine.execute(times, inputs={"n": 4})).output == 28


async def test_a_function_without_a_name_needs_a_key(engine: WorkflowEngine) -> None:
    @task(handler="docker")
    def nobody(n: int) -> int:
        return n

    with pytest.raises(FunctionNotFoundError, match="key"):
        await engine.execute(nobody, inputs={"n": 4})


async def test_a_pickle_is_not_given_to_another_python(handler: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    @task(handler="docker")
    def same(n: int) -> int:
        return n

    monkeypatch.setattr("graflow.handlers.docker.box.sys", SimpleNamespace(version_info=(3, 99, 0)))
    async with WorkflowEngine(handlers={"docker": handler()}, secret_key=KEY) as engine:
        with pytest.raises(TaskFailedError) as caught:
            await engine.execute(same, inputs={"n": 4})
        assert (await engine.execute(flows.double, inputs={"n": 4})).output == 8  # by import, whatever the version
    error = caught.value.__cause__
    assert isinstance(error, PythonVersionError)
    assert error.here == "3.99"
    assert error.there.startswith("3.")
    assert "use an image of Python 3.99" in str(error)


# ---- from the image ----------------------------------------------------------------------------------------------------

OWN = """
import os

def where() -> list[str]:
    return [os.getcwd(), os.environ.get("HOME", ""), __file__]

def go() -> None:
    os.chdir("/tmp")
"""


@pytest.fixture
def own_image(docker: engines.Engine, image: str) -> Iterator[str]:
    """An image that has a module in its working directory, a home, and another module elsewhere."""
    name = f"graflow-test-own:{os.getpid()}"
    files = {"/app/image_shop.py": OWN, "/home/me/.keep": "", "/opt/more/image_more.py": OWN}
    yield docker.image_from(image, name, files, "WORKDIR /app", "ENV HOME=/home/me")
    docker.remove_image(name)


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The same modules here, where they are submitted, by name."""
    for name in ("image_shop", "image_more"):
        (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    made = {name: task(handler="docker")(import_module(name).where) for name in ("image_shop", "image_more")}
    return SimpleNamespace(**made, go=task(handler="docker")(import_module("image_more").go))


async def place(handler: DockerHandler, graph: Any) -> Any:
    async with WorkflowEngine(handlers={"docker": handler}) as engine:
        return (await engine.execute(graph)).output


async def test_code_in_the_working_directory_of_an_image_is_found(handler: Make, own_image: str, shops: SimpleNamespace) -> None:
    found = await place(handler(image=own_image, code="image"), shops.image_shop)
    assert found == ["/app", "/home/me", "/app/image_shop.py"]


async def test_a_working_directory_that_is_named_is_where_code_is_found(handler: Make, own_image: str, shops: SimpleNamespace) -> None:
    found = await place(handler(image=own_image, code="image", workdir="/opt/more"), shops.image_more)
    assert found == ["/opt/more", "/home/me", "/opt/more/image_more.py"]


async def test_a_task_that_goes_elsewhere_leaves_the_code_of_the_next_where_it_was(
    handler: Make, own_image: str, shops: SimpleNamespace
) -> None:
    with workflow("twice") as wf:
        wf.add(shops.go >> shops.image_shop)
    found = await place(
        handler(image=own_image, code="image", isolation="worker", concurrency=1, environment={"PYTHONPATH": "/opt/more"}), wf
    )
    assert found == ["/tmp", "/home/me", "/app/image_shop.py"]


async def test_code_that_is_mounted_has_no_directory_of_the_image_around_it(handler: Make, own_image: str) -> None:
    assert await place(handler(image=own_image), flows.working_directory) == "/"
    assert await place(handler(image=own_image, workdir="/opt"), flows.working_directory) == "/opt"


async def test_an_image_without_a_home_has_the_directory_that_can_be_written_to(engine: WorkflowEngine) -> None:
    assert (await engine.execute(flows.variables)).output["HOME"] == "/tmp"
