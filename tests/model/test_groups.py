"""Rules 21 to 27 on graphs small enough to follow by hand."""

from __future__ import annotations

from typing import Any

import pytest

from graflow.core.outcome import GroupFailure, Success
from graflow.core.policy import GroupPolicy, GroupState, at_least_n, best_effort, coerce_policy, critical
from tests.model.plans import GraphSpec
from tests.model.play import AGAIN, ASK, BAD, END_LOOP, TERMINATE, Player, adjust, draw, goto, items, make, play


def test_a_group_waits_for_all_and_its_result_is_in_the_order_of_its_branches() -> None:
    """Rule 23."""
    graph = draw("g > z", g="a | b > c | d")
    script = {name: Success(name) for name in "abcd"}
    for newest in (False, True):
        assert play(graph, script, newest=newest).result("g") == ["a", "c", "d"]


def test_the_first_failure_decides_a_strict_group_and_the_others_are_cancelled() -> None:
    """Rules 24 and 25."""
    played = play(draw("g > z", g="a | b | c > d"), {"b": BAD}, on_failure="continue")
    assert played.history == "a1 b1"
    assert (played.those("cancelled"), played.those("broken")) == ("c d", "z")
    failure = played.state.errors[played.state.find("g") or 0]
    assert isinstance(failure, GroupFailure)
    assert (list(failure.failed), failure.succeeded, failure.cancelled) == (["b"], ("a",), ("d",))
    assert "1 of 3 branches failed (b: Boom: boom)" in failure.error.message


def test_a_branch_is_named_by_its_last_task_and_fails_by_any() -> None:
    """Rule 23."""
    played = play(adjust(draw(g="a > b | c"), g={"policy": best_effort}), {"a": BAD})
    assert (played.result("g"), played.those("broken")) == (["ok"], "b")


def test_a_branch_that_failed_anywhere_has_no_place_in_the_result() -> None:
    """Rule 23: though its last task was completed."""
    played = play(adjust(draw(g="a b | c"), g={"policy": best_effort}), {"a": BAD})
    assert (played.result("b"), played.result("g")) == ("ok", ["ok"])


def test_best_effort_with_all_failed_succeeds_with_nothing() -> None:
    """Rule 24."""
    played = play(adjust(draw("g > z", g="a | b"), g={"policy": best_effort}), {"a": BAD, "b": BAD})
    assert (played.end, played.result("g"), played.status("z")) == ("succeeded completed", [], "done")


def test_at_least_n_fails_as_soon_as_it_cannot_be_met_and_succeeds_when_all_are_decided() -> None:
    """Rule 24."""
    graph = adjust(draw(g="a | b | c"), g={"policy": at_least_n(2)})
    assert play(graph, {"a": BAD}).result("g") == ["ok", "ok"]
    played = play(graph, {"a": BAD, "b": BAD})
    assert (played.history, played.those("cancelled")) == ("a1 b1", "c")


def test_early_success_cancels_the_others() -> None:
    """Rule 24: unfinished branches have no place in the result."""
    graph = adjust(draw("g > z", g="a > b | c > d | e"), g={"policy": at_least_n(1, early=True)})
    player = Player(graph)
    player.settle("a")
    player.settle("e", Success("e"))
    played = player.played()
    assert (player.waiting, played.result("g"), played.those("cancelled")) == ("z", ["e"], "b c d")


def test_early_success_does_not_count_a_branch_with_a_made_task_still_running() -> None:
    """Rules 19 and 24."""
    player = Player(adjust(draw(g="a | b"), g={"policy": at_least_n(1, early=True)}))
    player.settle("a", make("d"))
    assert player.waiting == "b d"
    player.settle("d")
    assert player.played().end == "succeeded completed"


def test_critical_branches_must_succeed_and_others_need_not() -> None:
    """Rule 24."""
    graph = adjust(draw(g="a > b | c"), g={"policy": critical(["b"])})
    assert play(graph, {"c": BAD}).result("g") == ["ok"]
    assert play(graph, {"a": BAD}).end == "failed failed"


def test_a_skipped_branch_counts_as_succeeded_but_has_no_place_in_the_result() -> None:
    """Rule 24."""
    graph = adjust(draw(g="r > x | c"), g={"policy": at_least_n(2)})
    played = play(graph, {"r": make("d", goto=True)})
    assert (played.end, played.status("x"), played.result("g")) == ("succeeded completed", "skipped", ["ok"])


def test_a_policy_of_the_users_own_is_asked_once_when_all_have_drained() -> None:
    """Rule 24."""
    asked: list[GroupState] = []

    def most(state: GroupState) -> bool:
        asked.append(state)
        return len(state.succeeded) > len(state.failed)

    graph = adjust(draw(g="a | b | r > c"), g={"policy": coerce_policy(most)})
    played = play(graph, {"b": BAD, "r": make("d", goto=True)})
    assert asked == [GroupState(succeeded=("a",), failed=("b",), skipped=("c",), results={"a": "ok"})]
    assert played.end == "failed failed"
    assert play(graph, {}).end == "succeeded completed"


def test_a_policy_that_raises_fails_its_group_with_that() -> None:
    """Rule 24."""

    def broken(state: GroupState) -> bool:
        raise LookupError(len(state.results))

    played = play(adjust(draw(g="a"), g={"policy": coerce_policy(broken)}))
    assert (played.end, played.errors) == ("failed failed", {"g": "LookupError"})


def test_a_policy_that_says_no_though_nothing_failed_says_so() -> None:
    """Rule 24."""
    played = play(adjust(draw(g="a"), g={"policy": GroupPolicy("custom", function=lambda state: False)}))
    assert "its policy was not met" in played.state.errors[0].error.message


def test_a_skipped_group_is_skipped_as_a_whole() -> None:
    """Rule 25: its members have no results, not even those of an earlier visit."""
    graph = draw("r > g > s", "r > s", "s > r", g="m | k", k="n")
    played = play(graph, {"r2": goto("s"), "s2": END_LOOP})
    assert played.history == "r1 m1 n1 s1 r2 s2"
    assert played.those("skipped") == "g m k n"
    assert {played.state.ids[node] for node in played.state.results} == {"r", "s"}


def test_each_visit_starts_all_members_afresh() -> None:
    """Rule 25."""
    played = play(draw("h > g > h", "g > z", g="m > n"), {"h3": goto("z")})
    assert played.history == "h1 m1 n1 h2 m2 n2 h3 z1"


def test_an_empty_group_completes_at_once() -> None:
    """Rule 26."""
    played = play(draw("a > g > b", g=""))
    assert (played.history, played.result("g")) == ("a1 b1", [])


# ---- mapped groups, limits ----


def mapped(**changes: Any) -> GraphSpec:
    """`s > g > z` with g mapped over the result of s."""
    return adjust(draw("s > g > z", g=""), g={"mapped": "s", **changes})


def test_a_mapped_group_has_a_member_for_each_item() -> None:
    """Rule 27."""
    played = play(mapped(), {"s": items(3)})
    assert (played.history, played.result("g")) == ("s1 g[0]1 g[1]1 g[2]1 z1", ["ok", "ok", "ok"])
    assert play(mapped(), {"s": items(0)}).result("g") == []


def test_a_mapped_group_is_expanded_anew_with_each_visit() -> None:
    """Rules 25 and 27."""
    graph = adjust(draw("s > g > s", "s > z", g=""), g={"mapped": "s"})
    played = play(graph, {"s1": items(2), "s2": items(1), "s3": items(3), "s4": goto("z")})
    assert played.history == "s1 g[0]1 g[1]1 s2 g[0]2 s3 g[0]3 g[1]2 g[2]1 s4 z1"
    played = play(graph, {"s1": items(2), "s2": items(1), "s3": TERMINATE})
    assert (played.result("g"), played.status("g[1]")) == (["ok"], "cancelled")
    with pytest.raises(KeyError):
        played.result("g[1]")


@pytest.mark.parametrize(("outcome", "error"), [(items(-1), "ArgumentTypeError"), (Success("?"), "MissingArgumentError")])
def test_a_source_without_items_fails_the_group(outcome: Success, error: str) -> None:
    """Rule 27."""
    assert play(mapped(), {"s": outcome}).errors == {"g": error}


def test_a_policy_that_a_mapped_group_can_never_meet_fails_it_when_it_is_expanded() -> None:
    """Rule 26."""
    assert play(mapped(policy=at_least_n(3)), {"s": items(2)}).errors == {"g": "InvalidPolicyError"}
    assert play(mapped(policy=critical(["g[2]"])), {"s": items(2)}).errors == {"g": "InvalidPolicyError"}
    assert play(mapped(policy=critical(["g[1]"])), {"s": items(2), "g[0]": BAD}).result("g") == ["ok"]


def test_a_member_of_a_mapped_group_cannot_have_the_id_of_another_task() -> None:
    """Rules 18 and 27."""
    graph = adjust(draw("s > g", "s > h", g="", h=""), g={"mapped": "s"}, h={"mapped": "s", "template": "g"})
    assert play(graph, {"s": items(1)}, on_failure="continue").errors == {"h": "DuplicateTaskError"}


def test_members_of_a_mapped_group_bring_their_own_steps_unless_a_limit_was_given() -> None:
    """Rule 10."""
    assert play(mapped(), {"s": items(5)}).state.step_limit == 3 + 10_000 + 5
    assert play(mapped(), {"s": items(5)}, max_steps=4).end == "failed steps"


def test_no_more_members_run_at_once_than_the_limit_allows() -> None:
    """Rule 27."""
    player = Player(adjust(draw(g="a | b | c"), g={"limit": 2}))
    assert player.waiting == "a b"
    player.settle("b")
    assert player.waiting == "a c"


def test_what_follows_a_member_takes_its_place_before_another_branch_begins() -> None:
    """Rule 27."""
    player = Player(adjust(draw(g="a > b | c"), g={"limit": 1}))
    for expected in ("a", "b", "c"):
        assert player.waiting == expected
        player.settle(expected)


def test_a_group_takes_up_one_place_in_the_group_around_it() -> None:
    """Rule 27."""
    player = Player(adjust(draw(g="k | l", k="a | b", l="c"), g={"limit": 1}))
    assert player.waiting == "a b"
    player.settle("a")
    player.settle("b")
    assert player.waiting == "c"


def test_a_retry_keeps_its_place_and_a_suspended_step_gives_it_up() -> None:
    """Rules 27 and 29."""
    player = Player(adjust(draw(g="a | b"), g={"limit": 1}))
    player.settle("a", AGAIN)
    assert player.waiting == "a"
    player.settle("a", ASK)
    assert player.waiting == "b"
    player.resume("a")
    assert player.waiting == "b"
    player.settle("b")
    assert player.waiting == "a"


def test_an_attempt_that_waits_for_a_place_is_not_out() -> None:
    """Rule 27: nothing is stopped when its group is decided, and no outcome of it counts."""
    player = Player(adjust(draw(g="a | b"), g={"limit": 1}))
    state, b = player.state, player.state.find("b") or 0
    assert (state.outstanding, state.is_running(b, 1, 1)) == (1, False)
    player.settle("a", BAD)
    assert (player.played().end, player.played().status("b")) == ("failed failed", "cancelled")


def test_what_starts_and_is_stopped_in_one_step_is_neither_started_nor_stopped() -> None:
    """A failing expansion decides the group in the step that visits the members before it."""
    graph = adjust(draw("s > g", g="a | k", k=""), k={"mapped": "s"})
    player = Player(graph)
    player.settle("s", items(-1))
    assert player.state.starts == player.state.stops == []
    assert player.played().errors == {"k": "ArgumentTypeError", "g": "ParallelGroupError"}
