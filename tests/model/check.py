"""What must hold of a run after every step, whatever the graph: counts as a recount gives them, and nothing out of place."""

from __future__ import annotations

from graflow.core.board import ACTIVE, BREAK, BROKEN, DONE, FAILED, FIRE, HANDLED, SKIPPED, STATUS_NAMES, ScopeState
from graflow.core.plan import RUN
from graflow.core.run import RunState


class ViolationError(AssertionError):
    """Something that must never happen."""


def demand(holds: object, told: str) -> None:
    """Complain unless it holds."""
    if not holds:
        raise ViolationError(told)


def check(state: RunState, out: set[tuple[int, int, int]]) -> None:
    """Everything below. ``out`` are the attempts that were started and neither settled nor stopped."""
    check_attempts(state, out)
    check_edges(state)
    for scope in state.scopes.values():
        check_scope(state, scope)
    check_loops(state)
    check_results(state)
    check_end(state)


def check_attempts(state: RunState, out: set[tuple[int, int, int]]) -> None:
    """What is out is what is counted and what would be accepted."""
    demand(state.outstanding == len(out), f"{state.outstanding} counted as outstanding, {len(out)} are out")
    active = {node for node, status in enumerate(state.status) if status == ACTIVE}
    tasks = active - state.scopes.keys() - state.suspended.keys() - state.without_place
    demand({node for node, _, _ in out} == tasks, f"out: {out}, active: {tasks}")
    demand(all(state.is_running(*attempt) for attempt in out), "an attempt that is out would be refused")
    demand(state.suspended.keys() | state.without_place <= active, "suspended or without a place, but not active")
    demand(state.steps <= state.step_limit, f"{state.steps} steps of {state.step_limit}")
    for node, limit in state.plan.max_cycles.items():
        demand(state.cycle[node] <= limit, f"{state.ids[node]} visited {state.cycle[node]} times of {limit}")


def check_edges(state: RunState) -> None:
    """Joins count what was decided, and an edge is decided as its source wants it, once that is decided."""
    plan = state.plan
    for node in range(len(plan.ids)):
        decided = [state.edge[edge] for edge in plan.ins[node] if state.edge[edge]]
        counts = (state.undecided[node], state.fired[node], state.broken.get(node, 0))
        recount = (len(plan.ins[node]) - len(decided), decided.count(FIRE), decided.count(BREAK))
        demand(counts == recount, f"join of {state.ids[node]} counts {counts}, is {recount}")
    for number, edge in enumerate(plan.edges):
        if state.edge[number]:
            demand(state.edge[number] == state.want[number], f"{edge} was decided otherwise than wanted")
            demand(state.status[edge.source] > ACTIVE, f"{edge} was decided before its source")


def check_scope(state: RunState, scope: ScopeState) -> None:
    """The counts of a group or of the run, and what its status says of its members."""
    status, branch_of = state.status, state.branch_of
    name = "the run" if scope.node == RUN else state.ids[scope.node]
    open_members = [member for member in scope.members if status[member] <= ACTIVE]
    demand(scope.open == len(open_members), f"{name} counts {scope.open} open, has {len(open_members)}")
    bad: dict[int, int] = {}
    for member in scope.members:
        if status[member] >= FAILED:
            bad[branch_of[member]] = bad.get(branch_of[member], 0) + 1
    demand(scope.branch_bad == bad, f"{name} counts {scope.branch_bad} bad, has {bad}")
    demand(scope.critical_bad == len(scope.critical & bad.keys()), f"{name} counts critical branches wrongly")
    if scope.branch_open is not None:
        check_branches(state, scope, open_members, bad, name)
    if scope.group is not None:
        check_places(state, scope, name)
        check_group(state, scope, open_members, name)


def check_branches(state: RunState, scope: ScopeState, open_members: list[int], bad: dict[int, int], name: str) -> None:
    """What is kept for a policy that may succeed early."""
    counted = {branch: count for branch, count in (scope.branch_open or {}).items() if count}
    recount: dict[int, int] = {}
    for member in open_members:
        recount[state.branch_of[member]] = recount.get(state.branch_of[member], 0) + 1
    demand(counted == recount, f"{name} counts {counted} open in its branches, has {recount}")
    if state.is_live(scope.node):
        over = {state.branch_of[member] for member in scope.members} - recount.keys() - bad.keys()
        demand(scope.succeeded == over, f"{name} judges its branches {scope.succeeded} successful, are {over}")
        demand(len(over) < scope.group.policy.n if scope.group else True, f"{name} has enough and goes on")


def check_places(state: RunState, scope: ScopeState, name: str) -> None:
    """``limit`` bounds what runs, and nobody waits beside a free place."""
    limit = scope.group.limit if scope.group is not None else None
    active = {member for member in scope.members if state.status[member] == ACTIVE}
    waiting = active & state.without_place
    if limit is None:
        demand(not scope.running and not waiting, f"{name} has no limit and counts places")
        return
    demand(scope.running == active - waiting - state.suspended.keys(), f"{name} counts places wrongly")
    demand(len(scope.running) <= limit, f"{name} runs {len(scope.running)} at once, may {limit}")
    demand(not waiting or len(scope.running) == limit, f"{name} keeps members waiting beside a free place")


def check_group(state: RunState, scope: ScopeState, open_members: list[int], name: str) -> None:
    """A group and its members agree."""
    status = state.status[scope.node]
    active = [member for member in open_members if state.status[member] == ACTIVE]
    demand(status == ACTIVE or not active, f"{name} is {STATUS_NAMES[status]} and has active members")
    if status == DONE:
        demand(not open_members, f"{name} is done before its members")
        demand(not state.is_hopeless(scope), f"{name} is done against its policy")
    elif status in (SKIPPED, BROKEN):
        left = [member for member in scope.members if state.status[member] != status or member in state.results]
        demand(not left, f"{name} is {STATUS_NAMES[status]}, its members {left} are not")
    elif status == ACTIVE and scope.entered:
        demand(open_members, f"{name} is over and not closed")
        demand(not state.is_hopeless(scope), f"{name} cannot succeed any more and goes on")
    if status == ACTIVE and scope.node in state.without_place:
        demand(not active, f"{name} has no place, but active members")


def check_loops(state: RunState) -> None:
    """The counts of loops."""
    for loop in state.loops:
        statuses = [state.status[node] for node in loop.plan.body]
        counts = (loop.open, loop.bad)
        recount = (sum(status <= ACTIVE for status in statuses), sum(status >= FAILED for status in statuses))
        demand(counts == recount, f"the loop of {state.ids[loop.plan.header]} counts {counts}, has {recount}")
        if state.end is None and state.is_live(loop.plan.scope):
            demand(loop.ended == (loop.open == 0), f"the loop of {state.ids[loop.plan.header]} is over and goes on")


def check_results(state: RunState) -> None:
    """A node that is decided has a result if it completed, an error if it failed, and else neither."""
    for node, status in enumerate(state.status):
        told = f"{state.ids[node]} is {STATUS_NAMES[status]}"
        if status == DONE:
            demand(node in state.results and node not in state.errors, f"{told} without a result, or with an error")
        elif status in (FAILED, HANDLED):
            demand(node not in state.results and node in state.errors, f"{told} with a result, or without an error")
            demand((node in state.plan.forks) == (status == HANDLED), f"{told}, but the other of the two is right")
        elif status in (SKIPPED, BROKEN):
            demand(node not in state.results and node not in state.errors, f"{told} with a result or an error")


def check_end(state: RunState) -> None:
    """A run has work out, or is suspended, or has ended; and one that has ended is at rest."""
    agendas = (state.edge_agenda, state.look_agenda, state.visit_agenda, state.admissions)
    demand(not any(agendas), "work was left on the agenda")
    if state.end is None:
        demand(state.outstanding or state.suspended, "nothing is out and the run goes on")
        return
    demand(ACTIVE not in state.status and not state.outstanding and not state.suspended, "the run has ended, but not all in it")
    if state.end.cause == "completed":
        demand(not state.run_scope.open, "the run completed before its nodes were decided")
    if state.end.cause == "completed" or (state.end.cause == "failed" and state.on_failure == "continue"):
        failed = [node for node in state.errors if state.status[node] == FAILED and state.scope_of[node] == RUN]
        demand((state.end.status == "failed") == bool(failed), f"the run {state.end.status}, but {failed} failed")
