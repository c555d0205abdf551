"""Contexts for calling a task in a unit test, as a plain function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from graflow.core.context import BaseContext, SyncTaskContext, TaskContext
from graflow.core.node import Node
from graflow.testing.services import FakeServices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.core.task import Task

    Results = Mapping[str, Any] | Mapping[Node[Any], Any]


class _Recorder(BaseContext):
    """Keeps in order what a task asks for, on top of what every context does with it."""

    __slots__ = ("_fake", "directives")

    def __init__(self, services: FakeServices, **identity: Any) -> None:
        super().__init__(services, **identity)
        self._fake = services
        self.directives: list[tuple[str, Any]] = []

    @property
    def published(self) -> list[tuple[str, dict[str, Any]]]:
        """Every event in order, as a pair of its type and its data."""
        return self._fake.published

    @property
    def emitted(self) -> list[Any]:
        """What was given to ``ctx.emit``, in order."""
        return [data["data"] for type, data in self.published if type == "message"]

    @property
    def progressed(self) -> list[tuple[float, float | None, str]]:
        """What was given to ``ctx.progress``, in order: ``(done, total, message)``."""
        return [(data["done"], data["total"], data["message"]) for type, data in self.published if type == "progress"]

    def stop(self) -> None:
        """Tell the task to stop: ``ctx.is_cancelled`` is True from now on."""
        self._fake.stopped = True

    # ---- directives ----

    def next_task(self, task: Task[..., Any] | str, /, *, goto: bool = False, if_exists: Literal["error", "ignore"] = "error") -> None:
        place = len(self.directives)
        super().next_task(task, goto=goto, if_exists=if_exists)
        self.directives[place:] = [("next_task", task)]  # in place of the goto that the next task may be a word for

    def goto(self, target: Node[Any] | str, /) -> None:
        super().goto(target)
        self.directives.append(("goto", target.id if isinstance(target, Node) else target))

    def next_iteration(self, data: Any = msgspec.UNSET, /, **arguments: Any) -> None:
        super().next_iteration(data, **arguments)
        given = None if data is msgspec.UNSET else data
        if arguments:
            given = arguments if data is msgspec.UNSET else (data, arguments)
        self.directives.append(("next_iteration", given))

    def end_loop(self) -> None:
        super().end_loop()
        self.directives.append(("end_loop", None))

    def terminate_workflow(self, reason: str = "", /) -> None:
        super().terminate_workflow(reason)
        self.directives.append(("terminate_workflow", reason))

    def cancel_workflow(self, reason: str = "", /) -> None:
        super().cancel_workflow(reason)
        self.directives.append(("cancel_workflow", reason))


class FakeContext(_Recorder, TaskContext):
    """A :class:`~graflow.TaskContext` without a run. Made by :func:`context`.

    Attributes:
        directives: what the task asked for, in order, as pairs of the method's name and what it was given: ``("goto", "b")`` (the id, also
            for a task), ``("next_task", other)``, ``("next_iteration", data)``, ``("next_iteration", {"page": 2})`` for keywords (for both,
            the pair of them), ``("end_loop", None)``, ``("terminate_workflow", "why")``, ``("cancel_workflow", "why")``. What a run would
            make of them all together is in ``requested``.
        emitted: what was given to ``emit``.
        progressed: what was given to ``progress``: ``(done, total, message)``.
        published: every event, as ``(type, data)``.
    """

    __slots__ = ()


class SyncFakeContext(_Recorder, SyncTaskContext):
    """A :class:`~graflow.SyncTaskContext` without a run, with what :class:`FakeContext` records. Made by :func:`sync_context`."""

    __slots__ = ()


def context(
    task_id: str = "task",
    *,
    attempt: int = 1,
    cycle: int = 1,
    max_cycles: int | None = None,
    channel: Mapping[str, Any] | None = None,
    results: Results | None = None,
    resources: Mapping[str, Any] | None = None,
    run_id: str = "test-run",
    workflow: str = "test",
) -> FakeContext:
    """A context for calling an ``async def`` task like the function that it is.

    Args:
        task_id: what the context says the task is called.
        attempt: which try this is, from 1.
        cycle: which visit of the task in its run this is, from 1.
        max_cycles: how many visits ``can_iterate()`` allows, None for any number.
        channel: what is in the channel, which is a real one in memory.
        results: what ``result_of`` finds, by task or id.
        resources: what a ``lifespan`` would have yielded.
        run_id: what the context says the run is called.
        workflow: what it says the graph is called.

    Example:
        >>> ctx = testing.context(channel={"budget": 0})
        >>> await agent(ctx, "How tall is it?")
        >>> assert ctx.directives == [("end_loop", None)]
    """
    return FakeContext(
        FakeServices(task_id, channel, results),
        run_id=run_id, task_id=task_id, attempt=attempt, cycle=cycle, max_cycles=max_cycles, workflow=workflow, resources=resources or {},
    )  # fmt: skip


def sync_context(
    task_id: str = "task",
    *,
    attempt: int = 1,
    cycle: int = 1,
    max_cycles: int | None = None,
    channel: Mapping[str, Any] | None = None,
    results: Results | None = None,
    resources: Mapping[str, Any] | None = None,
    run_id: str = "test-run",
    workflow: str = "test",
) -> SyncFakeContext:
    """A context for calling a ``def`` task; takes what :func:`context` takes. No event loop is needed, and one may be running.

    The task is alone: where it waits for a channel key or a lock, a timeout runs out at once, and a wait without one raises GraflowError.

    Example:
        >>> ctx = testing.sync_context(channel={"seen": 2})
        >>> count(ctx)
        >>> assert ctx.channel.get("seen") == 3
    """
    return SyncFakeContext(
        FakeServices(task_id, channel, results),
        run_id=run_id, task_id=task_id, attempt=attempt, cycle=cycle, max_cycles=max_cycles, workflow=workflow, resources=resources or {},
    )  # fmt: skip
