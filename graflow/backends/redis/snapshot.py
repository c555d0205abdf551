"""What there is of a run, put together from its hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from graflow.backends.base import Ending, Snapshot
from graflow.backends.redis.failures import read_error
from graflow.backends.redis.image import OUT, PLACELESS, STEP_LIMIT, SUSPENDED, SUSPENSIONS, RunImage
from graflow.backends.redis.keys import parse_stream
from graflow.backends.redis.plans import stream_of
from graflow.core.board import ACTIVE, BROKEN, CANCELLED, SKIPPED, WAITING
from graflow.core.plan import RUN
from graflow.core.result import RunStatus
from graflow.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from graflow.core.outcome import Failure, GroupFailure
    from graflow.core.plan import Plan

WORDS: Final = {
    WAITING: "not reached",
    ACTIVE: "in progress",
    SKIPPED: "skipped",
    CANCELLED: "cancelled",
    BROKEN: "not run, because an earlier task failed",
}


def unserved_by_anyone(queue: str, handler: str) -> str:
    """What is said where no worker is there for a task."""
    return f"no worker serves the queue {queue!r} with the handler {handler!r}"


class RunReader:
    """A moment of a run, and its plan.

    Args:
        image: the hashes; large results have been fetched into it.
        plan: the plan of the run.
        now: milliseconds of the server's clock.
    """

    def __init__(self, image: RunImage, plan: Plan, now: float) -> None:
        self.image = image
        self.plan = plan
        self._now = now
        self._decoded: dict[int, Any] = {}
        if b"swept" in image.fields:
            self._sweep()

    def name_of(self, node: int) -> str:
        """The id of a node."""
        if node < len(self.plan.ids):
            return self.plan.ids[node]
        made = self.image.made.get(node)
        if made is not None:
            return made.id
        placed = self.image.range_of(node)
        mapping = self.plan.groups[placed[0]].mapping if placed is not None else None  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        return f"{mapping.task.id}[{placed[1]}]" if mapping is not None and placed is not None else f"#{node}"

    def scope_of(self, node: int) -> int:
        """The group that a node stands in."""
        if node < len(self.plan.ids):
            return self.plan.scope[node]
        made = self.image.made.get(node)
        placed = self.image.range_of(node)
        return made.scope if made is not None else placed[0] if placed is not None else RUN

    def is_group(self, node: int) -> bool:
        """Whether a node is a group."""
        return node < len(self.plan.ids) and self.plan.groups[node] is not None

    def result(self, node: int) -> Any:
        """The result of a node; None without one."""
        if node in self._decoded:
            return self._decoded[node]
        value: Any = None
        if node in self.image.keys:
            kept = self.image.kept.get(node)
            value = [codec.decode(each) for each in kept] if kept is not None else [self.result(key) for key in self.image.keys[node]]
        elif node in self.image.results:
            value = codec.decode(self.image.results[node])
        self._decoded[node] = value
        return value

    def failures(self) -> dict[int, Failure | GroupFailure]:
        """The failed nodes in the order in which they failed."""
        return {node: read_error(parts, node, self) for node, parts in self.image.errors.items()}

    def in_progress(self) -> Iterator[tuple[str, str, str]]:
        """The tasks whose attempts are in line or in somebody's hands: id, queue and handler. Of a large run the first hundred."""
        left = 100
        for node, byte in enumerate(self.image.bytes):
            if byte % 8 == ACTIVE and not byte & (SUSPENDED | PLACELESS) and not self.is_group(node) and left > 0:
                left -= 1
                queue, handler, _ = parse_stream(self.stream_of(node))
                yield self.name_of(node), queue, handler

    def refused(self, status: int = ACTIVE) -> dict[str, str]:
        """The tasks of a status whose present attempt was handed to workers that could not run it, and why not."""
        told: dict[str, str] = {}
        for node, refusal in self.image.refused.items():
            visit = self.image.visit(node)
            if self.image.status[node] == status and (visit.cycle, visit.attempt) == (refusal.cycle, refusal.attempt):
                data = codec.decode(refusal.data)
                told[self.name_of(node)] = f"worker {data['worker']} cannot run it ({data['reason']}): {data['message']}"
        return told

    def stream_of(self, node: int) -> str:
        """The stream that attempts of a node wait in."""
        made = self.image.made.get(node)
        if made is not None:
            return made.stream
        task = self.plan.tasks[node] if node < len(self.plan.ids) else None
        mapping = self.plan.groups[self.scope_of(node)] if task is None else None
        if mapping is not None and mapping.mapping is not None:
            task = mapping.mapping.task
        assert task is not None
        return stream_of(task)

    def _sweep(self) -> None:
        """The end of a large run takes nothing back one by one: what was under way counts as cancelled (21)."""
        status = self.image.status
        before = bytes(status)
        for node, known in enumerate(before):
            scope = self.scope_of(node)
            stopped = known == ACTIVE
            while known <= ACTIVE and not stopped and scope != RUN:
                stopped, scope = before[scope] == ACTIVE, self.scope_of(scope)
            if stopped:
                status[node] = CANCELLED
                if known == ACTIVE and self.is_group(node):
                    self.image.keys.pop(node, None)

    # ---- the whole ----

    def snapshot(self, run_id: str, waiting: Mapping[str, str]) -> Snapshot:
        """What there is of the run. ``waiting`` says of nodes in progress why they do not move."""
        image, fields = self.image, self.image.fields
        created = float(fields[b"created"])
        ended = float(fields[b"ended"]) if b"ended" in fields else self._now
        groups = {node: self.result(node) for node in image.keys}
        return Snapshot(
            run_id=run_id,
            workflow=self.plan.name,
            status=RunStatus(self.state),
            duration=max(0.0, ended - created) / 1000,
            results={self.name_of(node): self.result(node) for node in image.results},
            groups={self.name_of(node): value for node, value in groups.items()},
            failures={self.name_of(node): failure for node, failure in self.failures().items()},
            output=self._output(),
            ending=self._ending(),
            waiting={**self._without_result(), **waiting},
        )

    @property
    def state(self) -> str:
        """Where the run stands, in the words of RunStatus."""
        image = self.image
        if image.state != "r":
            return image.state
        return "suspended" if image.numbers[SUSPENSIONS] and not image.numbers[OUT] else "running"

    def _without_result(self) -> dict[str, str]:
        image = self.image
        told: dict[str, str] = {}
        for node, status in enumerate(image.status):
            if status in WORDS and node not in image.results and node not in image.keys and node not in image.errors:
                told[self.name_of(node)] = WORDS[status]
        told.update((self.name_of(node), f"suspended: {reason}") for node, reason in image.suspended.items())
        return told

    def _output(self) -> Any:
        """The run's output (32)."""
        image, plan = self.image, self.plan
        if image.end is not None and image.end[1] == "terminated" and image.end[2] is not None and not plan.output_given:
            return self.result(image.end[2])
        if len(plan.outputs) == 1:
            return self.result(plan.outputs[0])
        return {plan.ids[node]: self.result(node) for node in plan.outputs if node in image.results or node in image.keys}

    def _ending(self) -> Ending | None:
        end = self.image.end
        if end is None:
            return None
        _, cause, node, reason = end
        limit: float | None = None
        waited = ""
        if cause == "steps":
            limit = self.image.numbers[STEP_LIMIT]
        elif cause == "cycles" and node is not None:
            limit = self._max_cycles(node)
        elif cause == "timeout":
            limit, waited = float(self.image.fields[b"timeout"]) / 1000, self._waited()
        return Ending(cause, None if node is None else self.name_of(node), reason, limit, waited)

    def _waited(self) -> str:
        """What a run whose time ran out had been waiting for, as far as that was told while it went on."""
        refused = [f"task {name!r} was waiting: {why}" for name, why in self.refused(CANCELLED).items()]
        if refused:
            return refused[0]
        if b"lacks" not in self.image.fields:
            return ""
        lacks = codec.decode(self.image.fields[b"lacks"])
        return f"task {lacks['task_id']!r} was waiting: {unserved_by_anyone(lacks['queue'], lacks['handler'])}"

    def _max_cycles(self, node: int) -> int | None:
        if node < len(self.plan.ids):
            return self.plan.max_cycles.get(node)
        made = self.image.made.get(node)
        if made is not None:
            return made.max_cycles
        mapping = self.plan.groups[self.scope_of(node)].mapping  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        return mapping.task.options.max_cycles if mapping is not None else None
