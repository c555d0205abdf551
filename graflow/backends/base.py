"""The seam between Graflow and the place where queues, runs, channels and barriers live.

A backend is a :class:`TaskQueue` (what is to be done), a :class:`Coordinator` (what has been done, and what follows from it) and a
:class:`~graflow.core.channel.Channel` per run. The worker and the engine know only these; one conformance suite holds every backend to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from graflow.core.calls import CallPlan, StepView
    from graflow.core.channel import Channel
    from graflow.core.clock import Clock
    from graflow.core.outcome import Outcome
    from graflow.core.plan import Plan
    from graflow.core.result import RunStatus
    from graflow.core.run import OnFailure
    from graflow.core.task import Task
    from graflow.wire.keys import Signer
    from graflow.wire.messages import RunEvent, TaskSpec

IfExists = Literal["attach", "error", "rerun_failed"]


class RunOptions(msgspec.Struct, frozen=True):
    """How a plan is to be run.

    Attributes:
        run_id: the run's name, unique within the backend.
        inputs: the first values of the run's channel.
        start: number of the top-level node to begin with, None for all roots.
        timeout: seconds after which the run ends with RunTimeoutError.
        max_steps: how many visits the run may make, None for the default.
        on_failure: whether the first failure ends the run or lets it drain.
        remembered: whether the id was chosen by the user, and must be known for as long as results are kept.
    """

    run_id: str
    inputs: Mapping[str, Any] = {}
    start: int | None = None
    timeout: float | None = None
    max_steps: int | None = None
    on_failure: OnFailure = "fail"
    remembered: bool = True
    if_exists: IfExists = "attach"


class Delivery(msgspec.Struct):
    """An attempt in the hands of a worker.

    ``stopped`` is set by the backend when the outcome no longer counts; it then calls ``interrupt``, which the worker has put there while there is
    something to interrupt.

    Attributes:
        spec: names the attempt.
        task: what to run.
        call: where its arguments are found.
        workflow: name of the graph.
        feeds_map: whether a mapped group is expanded from the result.
        iterated: whether ``next_iteration`` made this visit, and so gives it arguments.
        cancelled: whether the attempt has been told to stop, for whatever reason; read by ``ctx.is_cancelled`` from other threads.
        waiting: how many calls into the event loop the task's thread waits for; changed on the loop only.
    """

    spec: TaskSpec
    task: Task[..., Any]
    call: CallPlan
    workflow: str
    feeds_map: bool = False
    iterated: bool = False
    stopped: bool = False
    interrupt: Callable[[], object] | None = None
    cancelled: bool = False
    waiting: int = 0


class Slots(Protocol):
    """How much a worker can take, live: the answer changes while a fetch waits."""

    def free(self, handler: str) -> int:
        """How many more attempts of this handler kind could start now."""
        ...

    @property
    def handlers(self) -> Sequence[str]:
        """The handler kinds that the worker has."""
        ...

    @property
    def queues(self) -> Sequence[str] | None:
        """The queues that it serves, None for all."""
        ...

    def take(self, handler: str) -> None:
        """One slot is given to an attempt."""
        ...


class QueueMetrics(msgspec.Struct, frozen=True):
    """The queues at one moment, all of them or one.

    Attributes:
        depth: attempts that could start now.
        delayed: attempts that wait for their time.
        in_flight: attempts in the hands of workers.
        oldest_age: seconds that the first attempt in line has waited, 0.0 for an empty queue.
        enqueued: attempts ever put in.
        fetched: attempts ever handed out.
    """

    depth: int = 0
    delayed: int = 0
    in_flight: int = 0
    oldest_age: float = 0.0
    enqueued: int = 0
    fetched: int = 0


class TaskQueue(Protocol):
    """Attempts waiting for a worker: first in, first out within a priority; delayed ones when their time has come."""

    async def enqueue(self, spec: TaskSpec, *, delay: float = 0.0) -> None:
        """Put an attempt in line, ``delay`` seconds from now.

        Raises:
            QueueFullError: as many attempts wait as may.
        """
        ...

    async def dequeue(self, slots: Slots) -> list[TaskSpec]:
        """Take what fits into the free slots, by priority; an empty list when there is nothing. Never waits."""
        ...

    async def is_empty(self) -> bool:
        """Whether nothing waits, delayed attempts included."""
        ...

    async def metrics(self, queue: str | None = None) -> QueueMetrics:
        """Depth, age and counts of all queues together; of one queue its ``depth``, ``in_flight`` and ``oldest_age``, while the rest is 0."""
        ...


class Snapshot(msgspec.Struct, frozen=True):
    """What there is of a run at one moment; what results and errors are made from.

    ``groups`` are the results of completed groups. ``failures`` are the failed nodes in the order in which they failed. ``ending`` is None while
    the run goes on. ``waiting`` says why a run does not move: suspended steps with their reasons, handlers that no worker has.
    """

    run_id: str
    workflow: str
    status: RunStatus
    duration: float
    results: dict[str, Any]
    groups: dict[str, list[Any]]
    failures: dict[str, Any]
    output: Any
    ending: Ending | None
    waiting: dict[str, str]


class Ending(msgspec.Struct, frozen=True):
    """Why a run is over: its cause (see :class:`graflow.core.ending.End`), the id of the node behind it, a reason, the limit that was hit, and what
    it had been waiting for when its time ran out, where that is known."""

    cause: str
    task_id: str | None = None
    reason: str = ""
    limit: float | None = None
    waited: str = ""


class Coordinator(Protocol):
    """Runs: their submission, the attempts they hand out, the outcomes they take, and whoever waits for them."""

    async def submit(self, plan: Plan, options: RunOptions) -> bool:
        """Begin a run; False if one of that id exists and is the same.

        Raises:
            RunConflictError: one of that id exists and is not the same.
            SerializationError: an input or bound argument cannot travel.
        """
        ...

    async def fetch(self, slots: Slots) -> list[Delivery]:
        """Attempts for the free slots, which are taken; waits until there is at least one. Cancelling the wait loses nothing."""
        ...

    async def settle(self, settled: Sequence[tuple[Delivery, Outcome | None]], slots: Slots) -> list[Delivery]:
        """Write outcomes, move their runs on, and hand out what the freed slots can take, in one step.

        None stands for an attempt that was stopped: nothing is written, it is merely known to have ended. Outcomes of attempts that no longer
        count are refused without an error. When it raises anything but a BackendUnavailableError, it will be called again for each of them alone,
        and must take those that it has not written.
        """
        ...

    async def release(self, deliveries: Sequence[Delivery]) -> None:
        """Hand attempts back unrun, without counting them as tries."""
        ...

    async def view(self, delivery: Delivery, names: Sequence[str]) -> StepView:
        """What the attempt's arguments are found in; ``names`` are the channel keys it may ask for."""
        ...

    async def result_of(self, delivery: Delivery, node_id: str) -> Any:
        """The result of any completed node of the delivery's run.

        Raises:
            UnknownTaskError: no such node.
            MissingArgumentError: the node has no result.
        """
        ...

    def publish(self, delivery: Delivery, type: str, data: Mapping[str, Any]) -> None:
        """Tell the run's observers something; never waits."""
        ...

    def channel(self, run_id: str) -> Channel:
        """The run's channel."""
        ...

    async def cancel(self, run_id: str, reason: str) -> bool:
        """End a run from outside; False if it is over already."""
        ...

    async def resume(self, run_id: str, task_id: str) -> bool:
        """Let a suspended step go on; False if it is not suspended any more."""
        ...

    async def wait(self, run_id: str) -> None:
        """Until the run has ended or is suspended."""
        ...

    def pin(self, run_id: str) -> object:
        """Something that keeps a finished run readable for as long as it is held."""
        ...

    async def snapshot(self, run_id: str) -> Snapshot:
        """What there is of a run.

        Raises:
            UnknownRunError: no such run.
        """
        ...

    def events(self, run_id: str, after: str | None = None) -> AsyncIterator[RunEvent]:
        """The run's events from its start, or after one of them; ends with ``run_finished``."""
        ...

    # ---- barriers (design 5): with run_id= one of that run, which goes when the run ends; else one that all who name it share ----

    async def create_barrier(self, group_id: str, parties: int, *, run_id: str | None = None) -> None:
        """A barrier that opens once, when so many parties have arrived; creating it again with as many changes nothing.

        Raises:
            ConfigurationError: it exists with other parties, or ``parties`` is no number of them.
            UnknownRunError: no such run, or it is over.
        """
        ...

    async def signal_barrier(self, group_id: str, party: str, *, run_id: str | None = None) -> bool:
        """A party arrives; True for the one that opens the barrier. A party that signals twice counts once."""
        ...

    async def wait_barrier(self, group_id: str, timeout: float | None = None, *, run_id: str | None = None) -> bool:
        """Until the barrier is open; False when ``timeout`` seconds pass first, it is removed, or its run ends."""
        ...

    async def cleanup_barrier(self, group_id: str, *, run_id: str | None = None) -> None:
        """Forget a barrier."""
        ...


class Backend(Protocol):
    """A queue, a coordinator, and what they need to begin and end."""

    @property
    def queue(self) -> TaskQueue: ...

    @property
    def coordinator(self) -> Coordinator: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def local(self) -> bool:
        """Whether runs live in this process and end with it."""
        ...

    @property
    def seals(self) -> bool:
        """Whether :meth:`seal` does anything."""
        ...

    def seal(self, value: Any, *, name: str = "value") -> Any:
        """A value as the next task will see it; raises SerializationError if it cannot travel."""
        ...

    @property
    def signer(self) -> Signer | None:
        """The keys that code and values which opted in are signed and verified with; None without one. May be set before anything runs."""
        ...

    @signer.setter
    def signer(self, signer: Signer | None) -> None: ...

    @property
    def place(self) -> str:
        """Where the runs live: the same text for every backend object of one server and namespace, and for no other. It holds no secret."""
        ...

    async def living(self) -> frozenset[str] | None:
        """The workers that hold a lease now, by id; None where there are no leases."""
        ...

    async def introduce(self, worker_id: str, slots: Slots) -> None:
        """A worker of this process is going to ask for work: what it is called, and what it can take."""
        ...

    async def open(self) -> None:
        """Connect, check, begin."""
        ...

    async def close(self) -> None:
        """End what was begun."""
        ...
