"""What a task's directives come to, as far as the plan alone can tell: where to go, what to add, and what is wrong with it (rules 15 and 18).

Whether a task of that id was made at run time is for the run to know, wherever it is kept.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from graflow.core.plan import RUN
from graflow.errors import DuplicateTaskError, UnknownTaskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graflow.core.outcome import Directives, NewTask
    from graflow.core.plan import Plan

GraphProblem = DuplicateTaskError | UnknownTaskError


class Wishes(NamedTuple):
    """Gotos by number, tasks that are not in the plan, and the first thing that is wrong."""

    targets: list[int]
    new: list[NewTask]
    problem: GraphProblem | None


def read_wishes(plan: Plan, planned: int, task_id: str, directives: Directives) -> Wishes:
    """Read the directives of a task.

    Args:
        plan: the plan of its run.
        planned: the node of the plan that it is, or that it stems from when it was made at run time.
        task_id: what it is called.
        directives: what it asked for.
    """
    new: list[NewTask] = []
    wanted = list(directives.goto)
    for request in directives.new:
        known = plan.index.get(request.task.id)
        if known is None:
            new.append(request)
        elif plan.holds(known, request.task):
            wanted.append(request.task.id)
        elif not request.ignore_existing:
            return Wishes([], new, clash(task_id, request.task.id))
    targets: list[int] = []
    for name in dict.fromkeys(wanted):
        target = plan.index.get(name)
        if target is None or not plan.sees(planned, target):
            return Wishes([], new, _out_of_sight(plan, planned, task_id, name))
        targets.append(target)
    return Wishes(targets, new, None)


def clash(task_id: str, name: str) -> DuplicateTaskError:
    """The error of a task that adds one of an id that is taken."""
    return DuplicateTaskError(
        f"task {task_id!r} adds a task {name!r}, but there is another one of that id; "
        f'give it a new id with task.clone("..."), or pass if_exists="ignore"',
        ids=(name,),
    )


def _out_of_sight(plan: Plan, planned: int, task_id: str, name: str) -> UnknownTaskError:
    known = [plan.ids[other] for other in islice(_in_sight(plan, planned), 5)]
    return UnknownTaskError(
        f"task {task_id!r} goes to {name!r}, which is not a node beside it or beside a group around it; "
        f"it can go to {', '.join(map(repr, known))}",
        ids=(name,),
        known=known,
    )


def _in_sight(plan: Plan, planned: int) -> Iterator[int]:
    scope = plan.scope[planned]
    while scope != RUN:
        group = plan.groups[scope]
        yield from group.members if group is not None else ()
        scope = plan.scope[scope]
    yield from plan.top
