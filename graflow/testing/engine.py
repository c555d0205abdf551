"""An engine for tests: everything in memory, and no time lost by waiting."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from graflow.backends.memory import MemoryBackend
from graflow.engine import WorkflowEngine
from graflow.testing.clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from graflow.handlers import Handler
    from graflow.worker.lifespan import Lifespan


class VirtualEngine(WorkflowEngine):
    """A :class:`~graflow.WorkflowEngine` in memory that owns its event loop's time while it is entered. Made by :func:`engine`.

    Attributes:
        clock: the time of the engine and of the loop; also ``engine.backend.clock``.
    """

    def __init__(
        self, *, seed: int | None, strict: bool, handlers: Mapping[str, Handler] | None, lifespan: Lifespan | None, concurrency: int
    ) -> None:
        self.clock: VirtualClock = VirtualClock()
        backend = MemoryBackend(strict=strict, clock=self.clock)
        super().__init__(backend, handlers=handlers, lifespan=lifespan, concurrency=concurrency, seed=seed)
        self._time = ExitStack()

    async def __aenter__(self) -> Self:
        with ExitStack() as time:
            time.enter_context(self.clock)
            time.enter_context(self.clock.standing_still(self._is_at_work))
            await super().__aenter__()
            self._time = time.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._time:
            await super().__aexit__(kind, error, trace)

    def _is_at_work(self) -> bool:
        worker = self.worker
        return worker is not None and any(handler.at_work for handler in worker.handlers.values())


def engine(
    *,
    seed: int | None = 0,
    strict: bool = False,
    handlers: Mapping[str, Handler] | None = None,
    lifespan: Lifespan | None = None,
    concurrency: int = 100,
) -> VirtualEngine:
    """An engine in memory on a virtual clock: retries, timeouts and ``asyncio.sleep`` take no time. See :class:`VirtualClock`.

    Args:
        seed: of the jitter of retries, the same by default for every test; None for a random one.
        strict: pass every value through the wire codec, so that a value which could not travel to a worker fails here too.
        handlers: handlers by name, added to the built-in ones.
        lifespan: an async context manager that yields a mapping, seen by tasks as ``ctx.resources``.
        concurrency: tasks at once, for each handler that has no limit of its own.

    Raises:
        ConfigurationError: when it is entered, if the event loop is not one of asyncio's own, such as uvloop.

    Example:
        >>> async with testing.engine() as engine:
        ...     result = await engine.execute(wf)      # three retries, a minute apart
        ...     assert result.duration == 180
    """
    return VirtualEngine(seed=seed, strict=strict, handlers=handlers, lifespan=lifespan, concurrency=concurrency)
