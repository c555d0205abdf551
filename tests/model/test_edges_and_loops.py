"""Rules 1 to 10 and 28 on graphs small enough to follow by hand."""

from __future__ import annotations

import pytest

from graflow.core.policy import best_effort
from tests.model.play import AGAIN, BAD, END_LOOP, ITERATE, TERMINATE, Player, adjust, draw, goto, play

# ---- edges and joins ----


def test_a_join_waits_for_all_and_runs_if_any_edge_fired() -> None:
    """Rule 1."""
    graph = draw("a > j", "b > j", "a > x")
    played = play(graph, {"a": goto("x")})
    assert played.history == "a1 b1 x1 j1"
    assert played.end == "succeeded completed"


def test_a_node_whose_edges_are_all_skipped_is_skipped_and_skips_on() -> None:
    """Rule 1."""
    played = play(draw("r > x > z", "r > y"), {"r": goto("y")})
    assert played.history == "r1 y1"
    assert played.those("skipped") == "x z"


def test_broken_is_stronger_than_fired() -> None:
    """Rule 1."""
    played = play(draw("x > j > k", "y > j"), {"x": BAD}, on_failure="continue")
    assert (played.those("failed"), played.those("broken"), played.end) == ("x", "j k", "failed failed")


def test_a_failure_edge_takes_the_failure() -> None:
    """Rule 2: the run goes on there, and succeeds; the error stays to be read."""
    played = play(draw("a > b", "a !> undo"), {"a": BAD})
    assert played.history == "a1 undo1"
    assert (played.those("handled"), played.those("skipped")) == ("a", "b")
    assert (played.end, played.errors) == ("succeeded completed", {"a": "Boom"})


def test_on_success_a_failure_edge_is_skipped() -> None:
    """Rule 2."""
    assert play(draw("a > b", "a !> undo", "a *> tidy")).history == "a1 b1 tidy1"


def test_an_always_edge_fires_either_way() -> None:
    """Rule 2."""
    assert play(draw("a > b", "a *> tidy"), {"a": BAD}).history == "a1 tidy1"


def test_a_failure_in_a_branch_that_is_handled_there_does_not_fail_the_branch() -> None:
    """Rules 2 and 23."""
    played = play(draw(g="a !> undo | c"), {"a": BAD})
    assert (played.end, played.result("g")) == ("succeeded completed", ["ok", "ok"])


def test_a_handled_failure_has_no_place_in_the_result() -> None:
    """Rules 2 and 23: `a` was written last in its branch and stands for it, but has no result."""
    played = play(draw("undo", "a !> undo", g="undo a | c"), {"a": BAD})
    assert (played.history, played.end, played.result("g")) == ("a1 c1 undo1", "succeeded completed", ["ok"])


def test_a_group_can_have_a_failure_edge() -> None:
    """Rule 2."""
    played = play(draw("g > b", "g !> undo", g="m | n"), {"m": BAD})
    assert played.history == "m1 undo1"
    assert (played.status("g"), played.status("n"), played.end) == ("handled", "cancelled", "succeeded completed")


def test_all_roots_start_together() -> None:
    """Rule 3."""
    assert Player(draw("a > b", "c", "d > b")).waiting == "a c d"


def test_start_skips_what_it_does_not_reach() -> None:
    """Rule 3."""
    played = play(draw("a > b > c", "x > c"), start="b")
    assert (played.history, played.those("skipped")) == ("b1 c1", "a x")


def test_a_goto_may_enter_what_start_left_out() -> None:
    """Rules 3 and 15."""
    played = play(draw("a > b > c", "x > y"), {"b": goto("x")}, start="b")
    assert (played.history, played.those("skipped")) == ("b1 x1 y1", "a c")


def test_start_in_the_middle_of_a_loop() -> None:
    """Rule 3: the plan's back edges stay as they are."""
    played = play(draw("a > b > c > a", "c > d"), {"c2": END_LOOP}, start="b")
    assert played.history == "b1 c1 a1 b2 c2 d1"


# ---- loops ----


def test_what_follows_a_loop_runs_once_after_it() -> None:
    """Rule 8, the agent loop."""
    graph = draw("agent > tool > agent", "agent > report")
    assert play(graph, {"agent3": END_LOOP}).history == "agent1 tool1 agent2 tool2 agent3 report1"


def test_a_goto_out_of_the_loop_ends_it() -> None:
    """Rule 9."""
    graph = draw("agent > tool > agent", "tool > report")
    assert play(graph, {"tool3": goto("report")}).history == "agent1 tool1 agent2 tool2 agent3 tool3 report1"


def test_the_header_is_visited_once_however_many_back_edges_fired() -> None:
    """Rule 6."""
    played = play(draw("a > b > a", "a > c > a"), {"b2": END_LOOP})
    assert played.history == "a1 b1 c1 a2 b2 c2"


def test_a_loop_ends_when_no_back_edge_fires() -> None:
    """Rule 6: a goto along an edge skips the others."""
    graph = draw("a > b > a", "b > c", "c > d")
    assert play(graph, {"b2": goto("c")}).history == "a1 b1 a2 b2 c1 d1"


def test_an_edge_from_outside_into_the_body_keeps_its_state() -> None:
    """Rule 7."""
    played = play(draw("p > h > x > h", "c > x"), {"x3": END_LOOP})
    assert played.history == "p1 c1 h1 x1 h2 x2 h3 x3"


def test_a_body_node_with_edges_from_outside_only_starts_again_with_each_round() -> None:
    """Rule 7: `x` is the header of the inner loop, and only `c` leads to it otherwise."""
    graph = draw("p > h > y", "c > x > y > x", "y > h")
    played = play(graph, {"y1": END_LOOP, "y2": TERMINATE})
    assert played.history == "p1 c1 h1 x1 y1 h2 x2 y2"


def test_an_edge_that_leaves_two_loops_waits_for_the_outer_one() -> None:
    """Rule 8."""
    graph = draw("a > b > c > b", "c > a", "c > out")
    played = play(graph, {"c1": goto("a"), "c2": END_LOOP, "c3": goto("out")})
    assert played.history == "a1 b1 c1 a2 b2 c2 a3 b3 c3 out1"


def test_end_loop_ends_the_innermost_loop_only() -> None:
    """Rule 9: it fires the edges that lead outside, the outer loop's back edge among them."""
    graph = draw("a > b > c > b", "c > a")
    played = play(graph, {"c2": END_LOOP, "c3": goto("b"), "c4": END_LOOP, "a3": END_LOOP})
    assert played.history == "a1 b1 c1 b2 c2 a2 b3 c3 b4 c4 a3"


def test_end_loop_in_a_group_ends_the_loop_around_the_group_when_it_settles() -> None:
    """Rule 9."""
    graph = draw("h > g > h", "g > z", g="a | b > c")
    assert play(graph, {"a2": END_LOOP}).history == "h1 a1 b1 c1 h2 a2 b2 c2 z1"


def test_a_goto_out_of_a_group_ends_the_loops_around_the_task_inside_it() -> None:
    """Rule 9."""
    graph = draw("g > z", "g > y", g="a > b > a")
    assert play(graph, {"b2": goto("z")}).history == "a1 b1 a2 b2 z1"


def test_the_only_entry_is_the_header() -> None:
    """Rule 5: entered at `b`, the round begins at `b`, wherever the loop was drawn from."""
    assert play(draw("a > b > c > a", "p > b"), {"a2": END_LOOP}).history == "p1 b1 c1 a1 b2 c2 a2"


def test_a_self_edge_repeats_a_task_until_its_bound_fails_the_run() -> None:
    """Rule 10: n visits are allowed, the next one fails the run."""
    graph = adjust(draw("a > a", "a > b"), a={"max_cycles": 3})
    played = play(graph)
    assert (played.history, played.end) == ("a1 a2 a3", "failed cycles")
    assert played.state.cycle[0] == 3
    assert play(graph, {"a3": END_LOOP}).history == "a1 a2 a3 b1"


@pytest.mark.parametrize("on_failure", ["fail", "continue"])
def test_a_bound_ends_the_run_inside_a_lenient_group_too(on_failure: str) -> None:
    """Rule 10."""
    graph = adjust(draw(g="a > a | b"), a={"max_cycles": 1}, g={"policy": best_effort})
    played = play(graph, on_failure=on_failure)
    assert (played.end, played.status("b")) == ("failed cycles", "cancelled")


def test_iterations_count_as_cycles() -> None:
    """Rules 10 and 20."""
    played = play(adjust(draw("a"), a={"max_cycles": 2}), {"a": ITERATE})
    assert (played.history, played.end) == ("a1 a2", "failed cycles")
    assert played.those("cancelled") == ""


def test_max_steps_counts_visits_of_tasks_and_groups_but_not_attempts_or_skips() -> None:
    """Rule 10."""
    graph = draw("r > x", "r > g > z", g="m")
    script = {"r": goto("g"), "m1.1": AGAIN}
    assert play(graph, script, max_steps=4).end == "succeeded completed"
    played = play(graph, script, max_steps=3)
    assert (played.end, played.state.steps, played.state.end and played.state.ids[played.state.end.node or 0]) == ("failed steps", 3, "z")


def test_a_loop_with_a_failed_node_ends_and_breaks_what_leaves_it() -> None:
    """Rule 28."""
    played = play(draw("a > b > a", "b > c", "a > x"), {"a2": BAD}, on_failure="continue")
    assert (played.history, played.those("broken")) == ("a1 b1 a2", "b c x")


def test_a_failure_ends_the_loop_though_a_back_edge_fired() -> None:
    """Rule 28."""
    played = play(draw("a > b > a", "a > c > a", "b > x"), {"c": BAD}, on_failure="continue")
    assert (played.history, played.those("broken")) == ("a1 b1 c1", "x")


def test_a_failure_edge_back_into_the_loop_begins_another_round() -> None:
    """Rules 2 and 6."""
    played = play(draw("a > b", "b !> a", "b > c"), {"b1": BAD, "b2": BAD})
    assert (played.history, played.end, played.errors) == ("a1 b1 a2 b2 a3 b3 c1", "succeeded completed", {})


def test_continue_drains_and_fails_with_the_first_error() -> None:
    """Rule 28."""
    played = play(draw("a > b", "c > d", "e"), {"c": BAD, "e": BAD}, on_failure="continue")
    assert (played.history, played.end, list(played.errors)) == ("a1 c1 e1 b1", "failed failed", ["c", "e"])
    assert played.state.end is not None
    assert played.state.end.node == played.state.find("c")


def test_the_first_failure_ends_the_run() -> None:
    """Rule 28: what runs is taken back."""
    played = play(draw("a > b", "c > d"), {"a": BAD})
    assert (played.history, played.end, played.those("cancelled")) == ("a1", "failed failed", "c")


def test_a_retry_is_another_attempt_of_the_same_visit() -> None:
    """Rules 10 and 17."""
    played = play(draw("a > b"), {"a1.1": AGAIN, "a1.2": AGAIN})
    assert played.history == "a1 a1.2 a1.3 b1"
