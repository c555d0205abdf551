"""Groups: entering one, making the members of a mapped one, judging its policy, closing it (rules 14, 23 to 27)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.core import expansion
from graflow.core.board import CANCELLED, DONE, FAILED, SKIPPED, WAITING, ScopeState
from graflow.core.boundary import UserCode
from graflow.core.outcome import GroupFailure, describe, policy_not_met
from graflow.core.policy import GroupState
from graflow.core.rounds import Rounds

if TYPE_CHECKING:
    from graflow.core.outcome import Failure
    from graflow.core.plan import Mapping
    from graflow.errors import GraflowError


class GroupRules(Rounds):
    """What happens at the edge of a group."""

    # ---- entering ----

    def prepare_scope(self, scope: ScopeState) -> GraflowError | None:
        """Make the members undecided, and make them at all in a mapped group; what cannot be expanded is returned."""
        scope.entered = False
        scope.gotos = []
        scope.leavers.clear()
        self._forget_dynamic(scope)
        if scope.group is not None and scope.group.mapping is not None:
            return self._expand(scope, scope.group.mapping)
        if not scope.fresh:
            for member in scope.members if self.went else ():
                self.went.pop(member, None)  # what a dynamic task of the last visit had gone to
            self.reset(frozenset(scope.members))
        scope.fresh = False
        return None

    def enter_scope(self, scope: ScopeState) -> None:
        """Visit what nothing leads to (3); an empty group completes at once (26)."""
        ins = self.plan.ins
        scope.entered = True
        self.visit_agenda.extend(member for member in scope.members if member >= len(ins) or not ins[member])
        self.consider(scope)

    def _forget_dynamic(self, scope: ScopeState) -> None:
        """Each visit of a group forgets the tasks that were made in the last one (25)."""
        if not scope.dynamic:
            return
        for member in scope.dynamic:
            self.mark(member, CANCELLED)  # whatever it was, it no longer counts against its branch
            self._forget(member)
            self.again.pop(member, None)
            del self.dynamic[member]
        gone = set(scope.dynamic)
        scope.members = [member for member in scope.members if member not in gone]
        scope.dynamic.clear()

    def _forget(self, member: int) -> None:
        """A member that there is none of any more has neither result nor error."""
        self.results.pop(member, None)
        self.errors.pop(member, None)

    def _expand(self, scope: ScopeState, mapping: Mapping) -> GraflowError | None:
        """One member for each item of the source's result (27)."""
        count = self.items.get(mapping.source) if mapping.source in self.results else None
        problem = self._why_not_expand(scope, mapping, count)
        if problem is None and count is not None:
            problem = self._make_members(scope, mapping, count) or self._check_policy(scope, scope.pool[:count])
        self._use_members(scope, 0 if problem is not None or count is None else count)
        return problem

    def _make_members(self, scope: ScopeState, mapping: Mapping, count: int) -> GraflowError | None:
        for place in range(len(scope.pool), count):
            name = f"{mapping.task.id}[{place}]"
            if self.find(name) is not None:
                return expansion.taken(self.ids[scope.node], name)
            member = self.add_node(name, scope, place, scope.node, mapping.task)
            self.item_of[member] = place
            scope.pool.append(member)
            self.allow_one_more_step()
        return None

    def _why_not_expand(self, scope: ScopeState, mapping: Mapping, count: int | None) -> GraflowError | None:
        group, source, parameter = self.ids[scope.node], self.ids[mapping.source], mapping.parameter
        if count is None:
            return expansion.no_items(group, source, parameter)
        if count < 0:
            return expansion.not_a_list(group, source, parameter, type(self.results[mapping.source]).__name__)
        return None

    def _use_members(self, scope: ScopeState, count: int) -> None:
        for member in scope.pool[count:]:
            self.mark(member, CANCELLED)
            self._forget(member)
            scope.succeeded.discard(self.branch_of[member])  # nor does its branch count any more
        scope.members = scope.pool[:count]
        scope.lasts = list(scope.members)
        for member in scope.members:
            self.mark(member, WAITING)

    def _check_policy(self, scope: ScopeState, members: list[int]) -> GraflowError | None:
        """What a build would have refused can be known of a mapped group only now (26)."""
        if scope.group is None:
            return None
        policy, group = scope.group.policy, self.ids[scope.node]
        if policy.kind == "at_least_n" and policy.n > len(members):
            return expansion.too_few(group, policy.n, len(members))
        if policy.kind != "critical":
            return None
        places = {self.ids[member]: place for place, member in enumerate(members)}
        unknown = [name for name in policy.ids if name not in places]
        if unknown:
            return expansion.no_such_critical(group, unknown)
        self._set_critical(scope, frozenset(places[name] for name in policy.ids))
        return None

    def _set_critical(self, scope: ScopeState, critical: frozenset[int]) -> None:
        scope.critical = critical
        scope.critical_bad = len(critical & scope.branch_bad.keys())

    def pass_over_members(self, scope: ScopeState, status: int) -> None:
        """A group that is skipped or broken is so as a whole; its members have no results (25)."""
        scope.fresh = False
        for member in scope.members:
            self.mark(member, status)
            self._forget(member)
            if member in self.scopes:
                self.pass_over_members(self.scopes[member], status)

    # ---- judging ----

    def is_hopeless(self, scope: ScopeState) -> bool:
        """Whether the policy can no longer be met, whatever the open members do."""
        failed = scope.branch_bad
        if not failed or scope.group is None:
            return False
        policy = scope.group.policy
        if policy.kind == "strict":
            return True
        if policy.kind == "critical":
            return scope.critical_bad > 0
        if policy.kind == "at_least_n":
            return len(scope.lasts) - len(failed) < policy.n
        return False

    def close_group(self, scope: ScopeState) -> None:
        """The group has drained, or has what its policy asks for: let it succeed or fail."""
        if scope.open:
            self._close_early(scope)
            return
        met = False
        with UserCode() as code:  # a policy that raises fails its group, not the process (24)
            met = not self.is_hopeless(scope) and self._custom_policy_agrees(scope)
        if code.error is not None:
            self.fail(scope.node, describe(code.error, self.ids[scope.node]))
        elif met:
            self._complete_group(scope, scope.lasts)
        else:
            self.fail_group(scope)

    def _close_early(self, scope: ScopeState) -> None:
        """``at_least_n(n, early=True)``: enough branches have succeeded, the others are not waited for."""
        if scope.group is None or len(scope.succeeded) < scope.group.policy.n:
            return
        lasts = [scope.lasts[branch] for branch in sorted(scope.succeeded)]
        self.stop_members(scope)
        self._complete_group(scope, lasts)

    def _custom_policy_agrees(self, scope: ScopeState) -> bool:
        function = scope.group.policy.function if scope.group is not None else None
        if function is None:
            return True
        failed, cancelled, skipped, succeeded = self._sort_branches(scope)
        results = {self.ids[last]: self.results[last] for last in self._with_results(scope, scope.lasts)}
        state = GroupState(succeeded=succeeded, failed=tuple(failed), cancelled=cancelled, skipped=skipped, results=results)
        return bool(function(state))

    def _with_results(self, scope: ScopeState, lasts: list[int]) -> tuple[int, ...]:
        """Those of the branches' last nodes whose result may be passed on: a branch that failed elsewhere has none (23)."""
        return tuple(last for last in lasts if self.status[last] == DONE and self.branch_of[last] not in scope.branch_bad)

    def _complete_group(self, scope: ScopeState, lasts: list[int]) -> None:
        node = scope.node
        keys = self._with_results(scope, lasts)
        self.results[node] = [self.results[last] for last in keys]
        self.result_keys[node] = keys
        self.items[node] = len(keys)
        self.errors.pop(node, None)
        self.mark(node, DONE)
        self.note("group_succeeded", node)
        if scope.gotos:
            self.go(node, list(dict.fromkeys((target, source) for target, source, _ in scope.gotos)))
        else:
            self.go_on(node, end_loop=bool(scope.leavers))

    def fail_group(self, scope: ScopeState) -> None:
        """The policy was not met: cancel what is left and fail the group with its branches' errors."""
        self.stop_members(scope)
        failed, cancelled, skipped, succeeded = self._sort_branches(scope)
        error = policy_not_met(self.ids[scope.node], self.attempt[scope.node], failed, len(scope.lasts))
        self.fail(scope.node, GroupFailure(error, failed, succeeded + skipped, cancelled))

    def _sort_branches(
        self, scope: ScopeState
    ) -> tuple[dict[str, Failure | GroupFailure], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Branch ids by what became of them: failed (with the error), cancelled, skipped, succeeded."""
        failures: dict[int, Failure | GroupFailure] = {}
        stopped: set[int] = set()
        for member in scope.members:
            branch = self.branch_of[member]
            if self.status[member] == FAILED:
                failures.setdefault(branch, self.errors[member])
            elif self.status[member] == CANCELLED:
                stopped.add(branch)
        failed: dict[str, Failure | GroupFailure] = {}
        cancelled: list[str] = []
        skipped: list[str] = []
        succeeded: list[str] = []
        for branch, last in enumerate(scope.lasts):
            name = self.ids[last]
            if branch in failures:
                failed[name] = failures[branch]
            elif branch in stopped:
                cancelled.append(name)
            elif self.status[last] == SKIPPED:
                skipped.append(name)
            else:
                succeeded.append(name)
        return failed, tuple(cancelled), tuple(skipped), tuple(succeeded)


def item_count(value: Any) -> int:
    """How many members a mapped group over this value has, -1 if it cannot be mapped over."""
    return len(value) if isinstance(value, list | tuple) else -1  # pyright: ignore[reportUnknownArgumentType]
