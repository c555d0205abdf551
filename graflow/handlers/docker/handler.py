"""The handler for containers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from graflow.errors import (
    ConfigurationError,
    ContainerEngineError,
    FunctionNotFoundError,
    HandlerError,
    ImageNotFoundError,
    OutputLimitError,
)
from graflow.handlers.base import Handler
from graflow.handlers.conversation import too_much
from graflow.handlers.docker import mounts, reaper, settings
from graflow.handlers.docker.bin import ContainerBin
from graflow.handlers.docker.engine import Engine
from graflow.handlers.docker.labels import Owner, Purpose
from graflow.handlers.docker.maker import BoxMaker
from graflow.handlers.docker.pool import Pool
from graflow.handlers.docker.reaper import Reaper
from graflow.handlers.shipping import program
from graflow.handlers.sizes import CONTAINER_TIMEOUT, CONTAINERS
from graflow.wire.functions import code_for_child

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from graflow.handlers.base import TaskCall, WorkerInfo
    from graflow.handlers.docker.box import Box
    from graflow.handlers.docker.settings import CodeFrom, Isolation, Pull
    from graflow.wire.functions import Code
    from graflow.wire.signing import Signer

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

KILL_PATIENCE: Final = 4.0
"""seconds for which an attempt that was stopped waits for the end of its container: its next attempt shall not overlap with it. Less than a worker
gives to what it has cancelled."""
LEASE_POLL: Final = 0.25
"""seconds between two looks for the worker's own lease, when it begins"""
REMEMBERED: Final = 1024
"""functions whose needs are remembered"""


class DockerHandler(Handler):
    """Runs tasks in Docker containers, ``def`` and ``async def`` alike: for isolation, other images, GPUs.

    By default each attempt has a fresh container, without network, capabilities, a file system that can be written to, or a user of the
    host's. The image needs Python and nothing else. The context works as it does elsewhere, but for ``ctx.resources``, which is empty, and
    new tasks, which are refused. What a task prints goes to the logger ``graflow.task.output``; its records go to the logger of their own name.

    A task that is stopped, or runs out of time, has its container killed. Containers of workers that are gone are removed by the next
    worker on their host. A handler belongs to one engine or worker.

    Args:
        image: what containers are made from.
        environment: variables for the task.
        volumes: directories of the host, or named volumes: ``{"/host/models": {"bind": "/models", "mode": "ro"}}``; the mode is
            ``"ro"`` unless given.
        gpus: ``"all"``, how many, or a list of device ids.
        memory: what a container may take: bytes, or a text such as ``"512m"``. There is no swap besides.
        cpus: how many CPUs it may use, such as 0.5.
        pids: how many processes and threads it may have.
        network: ``"none"``, ``"bridge"``, or the name of a network.
        user: user and group that run the task, by number or by name.
        read_only: whether its root file system cannot be written to.
        tmpfs: directories in memory, with their options; ``{"/tmp": "rw,noexec,nosuid,size=100m"}`` unless given.
        cap_drop: Linux capabilities that it lacks.
        cap_add: Linux capabilities that it has all the same.
        security_opt: Docker's security options.
        isolation: ``"task"`` for a fresh container each time; ``"worker"`` to use one for many tasks, one after the other.
        prewarm: containers that are kept ready ahead of their use.
        concurrency: how many tasks run at once.
        timeout: seconds for tasks that set no timeout of their own; None for no limit.
        code: ``"mount"`` to mount the package of a task's function, read-only; ``"image"`` if the image has it.
        packages: more packages to mount, by name. With ``prewarm``, name those of the tasks as well: what is kept ready before the first task is
            known can hold no others.
        workdir: the directory that tasks begin in, which is on ``sys.path`` too; ``/`` unless given, and with ``code="image"`` the image's
            own (``WORKDIR``).
        python: what Python is called in the image.
        pull: whether an image is pulled: ``"missing"``, ``"never"`` or ``"always"`` (at the start).
        output_limit: what one task may print, put into the channel and return: bytes, or a text such as ``"16m"``.
        host: where the engine is, such as ``unix:///var/run/docker.sock`` or ``tcp://host:2376``; ``DOCKER_HOST``, or the usual socket,
            unless given.
        labels: more labels for the containers.
        engine_grace: seconds that a task waits for an engine that is being started anew.

    Raises:
        ConfigurationError: one of them makes no sense.

    Example:
        >>> @task(handler="docker")
        ... def transcode(video: str) -> str: ...
        >>> async with WorkflowEngine(handlers={"docker": DockerHandler("python:3.11-slim", memory="2g", prewarm=2)}) as engine:
        ...     await engine.execute(transcode, inputs={"video": "a.mp4"})
    """

    sends_code: ClassVar[bool] = True

    def __init__(
        self,
        image: str = "python:3.11-slim",
        *,
        environment: Mapping[str, str] | None = None,
        volumes: Mapping[str, Mapping[str, str]] | None = None,
        gpus: int | str | Sequence[str] | None = None,
        memory: int | str = "512m",
        cpus: float = 1.0,
        pids: int = 128,
        network: str = "none",
        user: str = "65534:65534",
        read_only: bool = True,
        tmpfs: Mapping[str, str] | None = settings.TMPFS,
        cap_drop: Sequence[str] = ("ALL",),
        cap_add: Sequence[str] = (),
        security_opt: Sequence[str] = ("no-new-privileges",),
        isolation: Isolation = "task",
        prewarm: int = 0,
        concurrency: int = CONTAINERS,
        timeout: float | None = CONTAINER_TIMEOUT,
        code: CodeFrom = "mount",
        packages: Sequence[str] = (),
        workdir: str | None = None,
        python: str = "python3",
        pull: Pull = "missing",
        output_limit: int | str = "16m",
        host: str | None = None,
        labels: Mapping[str, str] | None = None,
        engine_grace: float = 30.0,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        self.settings: settings.DockerSettings = settings.check(given)
        self.concurrency: int | None = self.settings.concurrency
        self.timeout: float | None = self.settings.timeout
        self._worker: WorkerInfo | None = None
        self._signer: Signer | None = None
        self._calls: set[TaskCall] = set()
        self._needs: dict[Code, mounts.Needs] = {}
        self._engine: Engine | None = None
        self._bin: ContainerBin | None = None
        self._pool: Pool | None = None
        self._maker: BoxMaker | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._providing: asyncio.Lock | None = None

    @property
    def at_work(self) -> int:
        """How many attempts containers are at work on, those left out that wait for the event loop."""
        return sum(not call.waiting for call in self._calls)

    @property
    def warm(self) -> int:
        """How many containers wait for a task."""
        return self._pool.idle if self._pool is not None else 0

    # ---- life ----

    def introduce(self, worker: WorkerInfo) -> None:
        """Learn whose containers these will be."""
        self._worker = worker
        self._signer = worker.signer

    async def start(self) -> None:
        """Look for the engine and the image, and begin to keep containers ready.

        Raises:
            ConfigurationError: aiodocker is not installed, a package to mount is missing, or the handler runs already.
            ContainerEngineError: no engine answers.
            ImageNotFoundError: there is no such image.
        """
        if self._engine is not None:
            raise ConfigurationError("this DockerHandler runs already; make another one for each engine or worker", setting="handlers")
        extra = await self._packages()
        await asyncio.to_thread(program)  # it is read from files, once
        worker = self._worker or _Nobody()
        owner = await asyncio.to_thread(Owner.here, worker.place, worker.worker_id)
        engine = await Engine.connect(self.settings.host)
        try:
            await engine.version()
            await engine.provide(self.settings.image, self.settings.pull)
        except BaseException:
            await engine.close()
            raise
        self._engine = engine
        self._providing = asyncio.Lock()
        self._bin = ContainerBin(engine)
        self._maker = BoxMaker(engine, self.settings, owner, self._bin)
        reuse = self.settings.isolation == "worker"
        prewarm = min(self.settings.prewarm, self.settings.concurrency) if reuse else self.settings.prewarm
        self._pool = Pool(self._make, self._bin, prewarm=prewarm, reuse=reuse, mounts=extra)
        self._begin(Reaper(engine, owner, worker.living, self._bin, period=reaper.PERIOD).run(), "reap")
        self._begin(self._warm_up(self._pool, worker), "warm")

    async def stop(self) -> None:
        """Remove all containers, and close the connections."""
        engine, bin, pool = self._engine, self._bin, self._pool
        self._engine, self._bin, self._pool = None, None, None
        if engine is not None:
            engine.leaving = True
        for chore in self._chores:
            chore.cancel()
        if self._chores:
            await asyncio.wait(self._chores)
        if pool is not None:
            await pool.close()
        if bin is not None:
            await bin.empty()
        if engine is not None:
            await engine.close()

    async def health(self) -> dict[str, Any]:
        """What the engine says about itself, and whether it has the image; works without :meth:`start`, too.

        Raises:
            ConfigurationError: aiodocker is not installed, or a package to mount is missing.
            ContainerEngineError: no engine answers.
            ImageNotFoundError: there is no such image, and it must not be pulled.
        """
        await self._packages()
        engine = self._engine or await Engine.connect(self.settings.host)
        try:
            version = await engine.version()
            there = await engine.has_image(self.settings.image)
        finally:
            if engine is not self._engine:
                await engine.close()
        if not there and self.settings.pull == "never":
            text = f"the engine at {engine.host} has no image {self.settings.image!r}, and pull='never' forbids to get it; build or load it there"
            raise ImageNotFoundError(text, image=self.settings.image)
        return {
            "engine": version["Version"],
            "api": version["ApiVersion"],
            "host": engine.host,
            "image": self.settings.image,
            "image_present": there,
            "warm": self.warm,
        }

    async def _packages(self) -> Mapping[str, str]:
        """Where what the user wants to be mounted is."""
        return await asyncio.to_thread(mounts.packages, self.settings.packages if self.settings.code == "mount" else ())

    # ---- calls ----

    async def run(self, call: TaskCall) -> Any:
        """Run the attempt in a container.

        Raises:
            HandlerError: the container could not be had, or did not come to an answer; its subclasses say why.
            FunctionNotFoundError: the function cannot be had there.
            BaseException: whatever the task raised.
        """
        pool = self._pool
        if pool is None:
            raise HandlerError("the DockerHandler is not started", task_id=call.task_id)
        code = code_for_child(call.task.spec, self._signer, task_id=call.task_id)
        self._calls.add(call)
        try:
            needs = await self._needs_of(code)
            box = await pool.take(needs.mounts, Purpose(call.run_id, call.task_id, call.attempt))
            try:
                return await box.run(call, msgspec.structs.replace(code, main=needs.main or code.main))
            except FunctionNotFoundError as error:
                raise self._not_found(error) from error.__cause__
            except OutputLimitError as error:
                raise too_much(call.task_id, error.limit) from error.__cause__
            finally:
                await self._part_with(box, pool)
        finally:
            self._calls.discard(call)

    async def _part_with(self, box: Box, pool: Pool) -> None:
        if box.settled and self.settings.isolation == "worker":
            pool.give(box)
            return
        removal = pool.drop(box)
        if not box.settled:  # it may be at work still, so nothing is settled until it is dead
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_PATIENCE):
                    await asyncio.shield(removal)

    async def _needs_of(self, code: Code) -> mounts.Needs:
        if self.settings.code == "image":
            return mounts.NOTHING
        found = self._needs.get(code)
        if found is None:
            if len(self._needs) >= REMEMBERED:
                self._needs.clear()
            found = self._needs[code] = await asyncio.to_thread(mounts.needs_of, code)
        return found

    async def _make(self, code: Mapping[str, str], purpose: Purpose | None) -> Box:
        """A box; if the engine is away, when it is back, and if its image is, when that is there again."""
        engine, maker = self._engine, self._maker
        if engine is None or maker is None:
            raise HandlerError("the DockerHandler was stopped")
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.engine_grace
        provided = False
        while True:
            try:
                return await maker.make(code, purpose)
            except ImageNotFoundError:
                if provided:
                    raise
                await self._provide_again(engine)
                provided = True
            except ContainerEngineError:
                if not engine.away or engine.leaving or loop.time() >= until:
                    raise
                logger.warning("the Docker engine at %s is away; waiting for it", engine.host, extra={"engine": engine.host})
                await engine.back(until - loop.time())

    async def _provide_again(self, engine: Engine) -> None:
        """Get an image that was there at the start, and was removed since: whoever prunes a host does not look who may need it."""
        settings = self.settings
        assert self._providing is not None
        async with self._providing:  # of the calls that miss it, one pulls it for all
            await engine.provide(settings.image, "never" if settings.pull == "never" else "missing")

    def _not_found(self, error: FunctionNotFoundError) -> FunctionNotFoundError:
        remedy = (
            "the image must hold its module and whatever that imports"
            if self.settings.code == "image"
            else "name what else is to be mounted with packages=[...], or use an image that has it all, with code='image'"
        )
        return FunctionNotFoundError(f"{error}; {remedy}", reference=error.reference)

    # ---- chores ----

    def _begin(self, chore: Coroutine[Any, Any, None], name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(chore, name=f"graflow-docker-{name}")
        self._chores.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, chore: asyncio.Task[None]) -> None:
        self._chores.discard(chore)
        error = None if chore.cancelled() else chore.exception()
        if error is not None:
            logger.error("%s failed", chore.get_name(), exc_info=error)

    async def _warm_up(self, pool: Pool, worker: WorkerInfo | _Nobody) -> None:
        """Only when the worker has its lease: containers of one without are taken for orphans by those who share the host."""
        while (living := await worker.living()) is not None and worker.worker_id not in living:  # noqa: ASYNC110 - nobody tells, and it is there soon
            await asyncio.sleep(LEASE_POLL)
        pool.open()


class _Nobody:
    """In place of a worker, for a handler that is used by itself."""

    worker_id = "nobody"
    place = "memory:"

    async def living(self) -> None:
        """There are no leases."""
