"""A run told the slow way, to hold the real one against.

It keeps no counter and no index: whatever it wants to know it finds by looking at every node, edge and loop. What it does share with
:class:`graflow.core.run.RunState` is the order of work within one step: edges are decided first, then nodes are looked at, then visited,
then places in limited groups are given away, and only when all that is done does the innermost region that has drained close.
"""

from __future__ import annotations

from dataclasses import replace

from graflow.core.policy import GroupState
from tests.model.plans import NodeSpec, a_task
from tests.model.rings import Ring
from tests.model.steps import BAD, LIBRARY_ERROR, Steps, Wish


class Reference(Steps):
    """A run in progress; see :class:`graflow.core.run.RunState` for the arguments."""

    # ---- effects ----

    def tell(self, event: str, node: str) -> None:
        self.told.append((event, node, self.cycle[node]))

    def start(self, node: str) -> None:
        self.starts.append((node, self.cycle[node], self.attempt[node]))

    def stop(self, node: str) -> None:
        if self.status[node] == "active":
            if self.nodes[node].is_group:
                self.stop_members(node)
                if self.end is not None:
                    self.results.pop(node, None)
            elif self.is_out(node):
                self.stops.append((node, self.cycle[node], self.attempt[node]))
            self.tell("task_cancelled", node)
        self.mark(node, "cancelled")

    def stop_members(self, group: str) -> None:
        for node in [node for node in self.members(group) if self.is_open(node)]:
            self.stop(node)

    def mark(self, node: str, status: str) -> None:
        if self.status[node] == "active" and status != "active":
            self.free_place(node)
            self.suspended.discard(node)
            self.queue = [other for other in self.queue if other != node]
        self.status[node] = status

    # ---- visits and places ----

    def visit(self, node: str, came_from: list[str] | None = None) -> None:
        if self.end is not None:
            return
        gone = [wish for wish in self.wishes if wish.kind == "join" and wish.target == node]
        if gone:
            fired = [edge for edge in self.ins(node) if self.decided.get(edge) == "fire"]
            came_from = [wish.source for wish in gone] + [self.graph.edges[edge].source for edge in fired]
            self.wishes = [wish for wish in self.wishes if wish not in gone]
        if came_from is not None:
            self.came_from[node] = came_from
        elif node not in self.maker:
            self.came_from.pop(node, None)
        allowed = self.task[node].options.max_cycles if node in self.task else self.nodes[node].max_cycles
        if self.steps >= self.limit:
            return self.finish("failed", "steps", node)
        if allowed is not None and self.cycle[node] >= allowed:
            return self.finish("failed", "cycles", node)
        self.steps += 1
        self.cycle[node] += 1
        self.status[node] = "active"
        self.attempt[node] = 1
        self.retries.pop(node, None)
        if self.nodes[node].is_group:
            self.tell("group_started", node)
            problem = self.prepare(node)
            if problem is not None:
                return self.fail(node, (problem,))
        self.take_place(node)

    def take_place(self, node: str) -> None:
        group = self.nodes[node].group
        limit = self.nodes[group].limit if group is not None else None
        if group is not None and limit is not None and len(self.running(group)) > limit:
            self.queue.append(node)
        else:
            self.set_out(node)

    def set_out(self, node: str) -> None:
        if self.nodes[node].is_group:
            self.enter(node)
        else:
            self.start(node)

    def free_place(self, node: str) -> None:
        """Somebody who waits may start; who it is turns out when all else is done."""
        group = self.nodes[node].group
        took_place = node not in self.queue and node not in self.suspended
        if took_place and any(self.nodes[other].group == group for other in self.queue):
            self.freed.append(group or "")

    def admit(self, group: str) -> None:
        limit = self.nodes[group].limit or 0
        for node in [node for node in self.queue if self.nodes[node].group == group]:
            if len(self.running(group)) < limit:
                self.queue.remove(node)
                self.set_out(node)

    # ---- groups ----

    def enter(self, group: str | None) -> None:
        if group is not None:
            self.entered.add(group)
        self.agenda += [("visit", node) for node in self.members(group) if not self.ins(node)]

    def prepare(self, group: str) -> str | None:
        """Forget the last visit of a group, make the members of a mapped one; returns what is wrong with it."""
        self.entered.discard(group)
        self.leavers = {node for node in self.leavers if self.nodes[node].group != group}
        self.wishes = [wish for wish in self.wishes if wish.holder != group]
        for node in [node for node in self.members(group) if node in self.maker and node not in self.expanded]:
            self.mark(node, "cancelled")
            self.forget(node)
            self.again = [entry for entry in self.again if entry[0] != node]
            del self.nodes[node], self.maker[node]
        if self.nodes[group].mapped is not None:
            return self.expand(group)
        members = self.members(group)
        self.wishes = [wish for wish in self.wishes if not (wish.kind == "join" and wish.target in members)]
        self.reset(set(members))
        return None

    def expand(self, group: str) -> str | None:
        spec = self.nodes[group]
        count = self.items.get(spec.mapped or "") if spec.mapped in self.results else None
        names = [f"{spec.template or group}[{place}]" for place in range(count or 0)]
        problem = None
        if count is None:
            problem = "MissingArgumentError"
        elif count < 0:
            problem = "ArgumentTypeError"
        for place, name in enumerate(names if problem is None else ()):
            if self.maker.get(name) != group and name in self.ever:
                problem = "DuplicateTaskError"
                break
            if name not in self.ever:
                self.ever.append(name)
                self.limit += not self.limit_given
            self.maker[name] = group
            self.expanded[name] = place
        if problem is None and (spec.policy.n > len(names) or not set(spec.policy.ids) <= set(names)):
            problem = "InvalidPolicyError"
        self.use(group, names if problem is None else [])
        return LIBRARY_ERROR + problem if problem is not None else None

    def use(self, group: str, names: list[str]) -> None:
        """Give a mapped group these members and no others."""
        for node in self.members(group):
            if node not in names:
                self.forget(node)
                del self.nodes[node]
        for name in names:
            self.nodes[name] = NodeSpec(name, group, self.expanded[name])
            self.task[name] = a_task(name)
            self.cycle.setdefault(name, 0)
            self.attempt.setdefault(name, 0)
            self.status[name] = "waiting"

    def is_hopeless(self, group: str) -> bool:
        policy, bad = self.nodes[group].policy, self.branches(group, *BAD)
        lasts = self.lasts(group)
        if policy.kind == "at_least_n":
            return len(lasts) - len(bad) < policy.n
        if policy.kind == "critical":
            return any(self.nodes[last].branch in bad for last in lasts if last in policy.ids)
        return policy.kind == "strict" and bool(bad)

    def has_enough(self, group: str) -> bool:
        policy = self.nodes[group].policy
        return policy.early and len(self.succeeded(group)) >= policy.n

    def close_group(self, group: str) -> None:
        counted = self.succeeded(group)
        self.stop_members(group)  # there are some to be stopped if it closes early
        function = self.nodes[group].policy.function
        if self.is_hopeless(group):
            return self.fail_group(group)
        passed_on = [last for last in self.lasts(group) if self.nodes[last].branch in counted and self.status[last] == "done"]
        if function is not None:
            try:
                agreed = function(self.group_state(group, passed_on))
            except ZeroDivisionError:
                return self.fail(group, ("ZeroDivisionError",))
            if not agreed:
                return self.fail_group(group)
        self.results[group] = [self.results[last] for last in passed_on]
        self.result_keys[group] = passed_on
        self.items[group] = len(passed_on)
        self.errors.pop(group, None)
        self.mark(group, "done")
        self.tell("group_succeeded", group)
        lifted = [(wish.target, wish.source) for wish in self.wishes if wish.holder == group]
        if lifted:
            return self.go(group, list(dict.fromkeys(lifted)))
        return self.walk_on(group, end_loop=any(self.nodes[member].group == group for member in self.leavers))

    def fail_group(self, group: str) -> None:
        self.stop_members(group)
        state = self.group_state(group, [])
        self.fail(group, ("ParallelGroupError", state.failed, state.succeeded + state.skipped, state.cancelled))

    def group_state(self, group: str, passed_on: list[str]) -> GroupState:
        failed, stopped = self.branches(group, "failed"), self.branches(group, "cancelled")
        named = {self.nodes[last].branch: last for last in self.lasts(group)}
        rest = {branch: last for branch, last in named.items() if branch not in failed | stopped}
        return GroupState(
            succeeded=tuple(last for last in rest.values() if self.status[last] != "skipped"),
            failed=tuple(last for branch, last in named.items() if branch in failed),
            cancelled=tuple(last for branch, last in named.items() if branch in stopped - failed),
            skipped=tuple(last for last in rest.values() if self.status[last] == "skipped"),
            results={last: self.results[last] for last in passed_on},
        )

    # ---- regions that have drained ----

    def close_innermost(self) -> bool:
        for ring in sorted(self.rings, key=lambda ring: -ring.depth):
            if ring not in self.ended and self.is_live(ring.scope) and not any(map(self.is_open, ring.body)):
                self.turn(ring)
                return True
        groups = [node for node in self.nodes if self.nodes[node].is_group and self.is_live(node)]
        for group in sorted(groups, key=lambda group: (-self.depth(group), self.rank[group])):
            if not any(map(self.is_open, self.members(group))) or self.has_enough(group):
                self.close_group(group)
                return True
        if any(map(self.is_open, self.members(None))):
            return False
        failed = [node for node in self.errors if self.status[node] == "failed" and self.nodes[node].group is None]
        self.finish(*(("failed", "failed", failed[0]) if failed else ("succeeded", "completed")))
        return True

    def depth(self, node: str) -> int:
        group = self.nodes[node].group
        return 0 if group is None else 1 + self.depth(group)

    def turn(self, ring: Ring) -> None:
        bad = any(self.status[node] in BAD for node in ring.body)
        left = any(loop == ring for loop, _ in self.left)
        back = [self.graph.edges[edge].source for edge in sorted(ring.back) if self.want.get(edge) == "fire"]
        back += [wish.source for wish in self.wishes if wish.kind == "turn" and wish.holder == ring]
        if back and not bad and not left:
            self.reset(set(ring.body))
            self.agenda += [("look", node) for node in sorted(ring.body, key=self.rank.__getitem__) if node != ring.header]
            self.visit(ring.header, back)
            return
        self.ended.append(ring)
        leaps = [wish for wish in self.wishes if wish.kind == "leap" and wish.holder == ring]
        self.wishes = [wish for wish in self.wishes if wish not in leaps]
        if not bad:
            self.jump(leaps)
        if ring not in self.ended:
            return
        for number, edge in enumerate(self.graph.edges):
            if number not in self.back and self.leaves(edge.source, edge.target)[:1] == [ring]:
                self.want[number] = "break" if bad else self.want.get(number, "skip")
                self.agenda.append(("edge", number))

    # ---- going elsewhere and going back ----

    def go(self, node: str, gotos: list[tuple[str, str]]) -> None:
        cycle, outs = self.cycle[node], self.outs(node)
        along = {self.graph.edges[edge].target for edge in outs}
        self.jumps |= {(source, target) for target, source in gotos}
        wishes = [self.wish(target, source, node) for target, source in gotos]
        at_once = [wish for wish in wishes if wish.kind == "join" and wish.target not in along]
        self.jump(at_once)
        undone = self.cycle[node] != cycle or self.is_open(node)
        chosen: list[str] = []
        for wish in wishes:
            if wish in at_once:
                continue
            if wish.kind == "lift":
                self.left += [(ring, node) for ring in self.around(node)]
            else:
                self.left += [(ring, node) for ring in self.leaves(node, wish.target)]
            if wish.target in along and not undone:
                chosen.append(wish.target)
            elif wish.kind == "join":
                self.jump([wish])
            else:
                self.wishes.append(wish)
        if not undone:
            self.want |= {edge: "fire" if self.graph.edges[edge].target in chosen else "skip" for edge in outs}
            self.release(node)

    def wish(self, target: str, source: str, node: str) -> Wish:
        """What a goto comes to: who is to perform it, and when."""
        group = self.nodes[node].group
        if self.nodes[target].group != group:
            return Wish("lift", target, source, node, group)
        turned = [ring for ring in self.around(node) if ring.header == target]
        if turned:
            return Wish("turn", target, source, node, turned[0])
        left = self.leaves(node, target)
        return Wish("leap", target, source, node, left[0]) if left else Wish("join", target, source, node)

    def jump(self, wishes: list[Wish]) -> None:
        back = list(dict.fromkeys(wish.target for wish in wishes if self.status[wish.target] != "waiting"))
        first = [node for node in back if not any(node in self.downstream(other) for other in back if other != node)]
        self.reset({other for node in first for other in self.downstream(node)})
        for node in first:
            if self.status[node] == "waiting":
                self.visit(node, [wish.source for wish in wishes if wish.target == node])
        for wish in wishes:
            if self.status[wish.target] == "waiting" and self.end is None:
                self.wishes.append(replace(wish, kind="join", holder=None))
                self.agenda.append(("look", wish.target))

    def reset(self, region: set[str]) -> None:
        """Undo the visits of these nodes, and what they have asked for and not got."""
        self.agenda = [
            (kind, what) for kind, what in self.agenda
            if (self.graph.edges[what].source if kind == "edge" else what) not in region
        ]  # fmt: skip
        for node in sorted(region, key=self.rank.__getitem__):
            if self.status[node] == "active":
                self.stop(node)
            self.mark(node, "waiting")
        self.wishes = [wish for wish in self.wishes if wish.via not in region]
        self.left = [(ring, node) for ring, node in self.left if node not in region]
        self.leavers -= region
        touched = [ring for ring in self.rings if ring.body & region]
        self.ended = [ring for ring in self.ended if ring not in touched]
        for number, edge in enumerate(self.graph.edges):
            if edge.source in region:
                self.want.pop(number, None)
                self.decided.pop(number, None)
            elif any(ring in touched and not ring.body <= region for ring in self.leaves(edge.source, edge.target)):
                self.decided.pop(number, None)

    # ---- the beginning ----

    def begin_at(self, start: str) -> None:
        reach = self.downstream(start)
        for node in self.members(None):
            if node not in reach:
                self.status[node] = "skipped"
                self.pass_over_members(node, "skipped")
                for edge in self.outs(node):
                    left = self.leaves(node, self.graph.edges[edge].target)
                    if edge not in self.back and not any(ring.body & reach for ring in left):
                        self.want[edge] = self.decided[edge] = "skip"
        self.visit(start)
