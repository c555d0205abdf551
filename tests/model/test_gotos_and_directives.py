"""Rules 11 to 21, and 30, on graphs small enough to follow by hand."""

from __future__ import annotations

from graflow.core.outcome import Directives, Iteration, NewTask, Success
from graflow.core.policy import best_effort
from tests.model.plans import template
from tests.model.play import ASK, BAD, CANCEL, END_LOOP, ITERATE, TERMINATE, Player, adjust, draw, goto, make, play

# ---- gotos ----


def test_a_goto_along_an_edge_skips_the_others_also_those_that_fire_always() -> None:
    """Rule 11."""
    played = play(draw("r > x", "r > y", "r *> tidy"), {"r": goto("y")})
    assert (played.history, played.those("skipped")) == ("r1 y1", "x tidy")


def test_a_node_left_out_by_a_goto_still_runs_if_another_edge_fired() -> None:
    """Rules 1 and 11, the surprise that the rules end with."""
    assert play(draw("r > x", "r > y", "c > x"), {"r": goto("y")}).history == "r1 c1 y1 x1"


def test_a_goto_to_a_node_that_waits_does_not_start_it() -> None:
    """Rule 11: it is one more fired edge."""
    player = Player(draw("a > b > c", "e > c"))
    player.settle("a", goto("c"))
    assert (player.waiting, player.played().status("b")) == ("e", "skipped")
    player.settle("e")
    assert player.waiting == "c"


def test_a_goto_is_recorded_before_any_skip_is_passed_on() -> None:
    """Rule 11: the skipped `b` would otherwise have taken `c` with it."""
    assert play(draw("a > b > c"), {"a": goto("c")}).history == "a1 c1"


def test_a_goto_to_the_header_is_one_more_back_edge() -> None:
    """Rule 12: the round drains first."""
    graph = draw("a > b > c > a", "b > x")
    assert play(graph, {"b1": goto("a"), "c1": END_LOOP}).history == "a1 b1 a2 b2 c1 x1"


def test_a_goto_back_does_again_all_that_forward_edges_lead_to() -> None:
    """Rule 13."""
    played = play(draw("a > b > d", "a > x > d"), {"b1": goto("a")})
    assert played.history == "a1 b1 a2 b2 x2 d1"


def test_what_runs_there_is_stopped_and_its_outcome_refused() -> None:
    """Rule 13."""
    player = Player(draw("a > slow", "back"))
    player.settle("a")
    slow = player.out[-1]
    player.settle("back", goto("a"))
    assert player.waiting == "a"
    assert not player.state.settle(*slow, TERMINATE)
    player.settle("a")
    assert player.waiting == "slow"
    assert not player.state.settle(*slow, TERMINATE)


def test_a_goto_to_itself_visits_the_task_again() -> None:
    """Rule 13."""
    assert play(draw("a > b"), {"a1": goto("a")}).history == "a1 a2 b1"


def test_a_finished_loop_that_is_entered_again_decides_its_exits_again() -> None:
    """Rule 13."""
    graph = draw("a > b > a", "a > x > y")
    played = play(graph, {"b2": END_LOOP, "y1": goto("b"), "b3": END_LOOP})
    assert played.history == "a1 b1 a2 b2 x1 y1 b3 x2 y2"


def test_of_two_places_to_go_back_to_the_later_one_waits_for_the_earlier() -> None:
    """Rules 13 and 16: whichever is named first."""
    for targets in (("a", "b"), ("b", "a")):
        played = play(draw("a > b > c > d"), {"d1": goto(*targets)})
        assert played.history == "a1 b1 c1 d1 a2 b2 c2 d2"


def test_gotos_add_up_even_if_one_of_them_leads_to_before_the_task() -> None:
    """Rule 16."""
    graph = draw("draft > check > publish", "late > notify")
    player = Player(graph)
    player.settle("draft")
    player.settle("check", goto("draft", "notify"))
    player.settle("late", goto("publish"))
    assert player.waiting == "draft notify"


def test_what_a_visit_asked_for_and_did_not_get_is_undone_with_it() -> None:
    """Rule 13: `b` went to `x`, which waits; then `b` is undone, and does not go there again."""
    player = Player(draw("a > b > c", "e > x", "f"))
    player.settle("a")
    player.settle("b", goto("x"))
    player.settle("f", goto("a"))
    player.settle("e", goto("f"))
    player.settle("a")
    player.settle("b")
    assert player.played().status("x") == "skipped"


def test_a_goto_out_of_a_group_is_performed_by_the_group() -> None:
    """Rule 14: when it settles, instead of its own edges; level by level."""
    graph = draw("g > z", "h > y", g="k | n", k="m")
    player = Player(graph)
    player.settle("m", goto("y"))
    assert player.waiting == "h n"
    player.settle("n")
    player.settle("h")
    assert (player.waiting, player.played().status("z")) == ("y", "skipped")
    player.settle("y")
    assert player.played().result("g") == [["ok"], "ok"]


def test_a_failing_group_drops_the_gotos_of_its_members() -> None:
    """Rule 14."""
    graph = draw("g !> undo", "w > h", "w > k", g="m | n")
    played = play(graph, {"m": goto("h"), "n": BAD, "w": goto("k")})
    assert (played.history, played.those("skipped")) == ("w1 m1 n1 k1 undo1", "h")


def test_a_member_that_is_done_again_may_decide_not_to_leave_the_group() -> None:
    """Rules 13 and 14."""
    graph = draw("g > d", "g > z", g="a > b > c | e")
    player = Player(graph)
    player.settle("a")
    player.settle("b", goto("z"))
    player.settle("e", goto("a"))
    for name in ("a", "b", "c"):
        player.settle(name)
    assert player.waiting == "d z"


def test_a_goto_to_what_cannot_be_seen_fails_the_step() -> None:
    """Rule 15: unknown, inside another group, or made at run time."""
    graph = draw("a", g="m")
    for target in ("nowhere", "m", "made"):
        played = play(graph, {"a": goto(target)})
        assert (played.end, played.errors) == ("failed failed", {"a": "UnknownTaskError"})


def test_the_error_of_a_goto_says_where_it_could_have_gone() -> None:
    """Rule 15."""
    played = play(draw("a > g", g="m > n"), {"m": goto("elsewhere")})
    error = played.state.errors[played.state.find("m") or 0]
    assert "it can go to 'm', 'n', 'a', 'g'" in error.error.message


# ---- new tasks, iterations ----


def test_a_new_task_runs_beside_what_follows_its_maker() -> None:
    """Rules 16 and 19."""
    player = Player(draw("a > b"))
    player.settle("a", make("d"))
    assert player.waiting == "b d"


def test_a_new_task_as_a_goto_skips_the_edges() -> None:
    """Rule 16."""
    played = play(draw("a > b"), {"a": make("d", goto=True)})
    assert (played.history, played.those("skipped")) == ("a1 d1", "b")


def test_a_known_task_as_a_new_one_is_a_goto() -> None:
    """Rule 18."""
    played = play(draw("a > b", "a > c"), {"a": make("c")})
    assert (played.history, played.those("skipped")) == ("a1 c1", "b")


def test_the_maker_may_ask_for_its_task_again_and_visits_do_not_overlap() -> None:
    """Rule 18."""
    player = Player(draw("a"))
    player.settle("a", make("d", "d", iterate=True))
    assert player.waiting == "a d"
    player.settle("a", make("d"))
    for _ in range(3):
        assert player.waiting == "d"
        player.settle("d")
    assert (player.played().history, player.played().end) == ("a1 a2 d1 d2 d3", "succeeded completed")


def test_another_task_that_makes_one_of_the_same_id_fails_or_is_ignored() -> None:
    """Rule 18."""
    played = play(draw("a", "b"), {"a": make("d"), "b": make("d")})
    assert played.errors == {"b": "DuplicateTaskError"}
    played = play(draw("a", "b > c"), {"a": make("d"), "b": make("d", ignore=True, goto=True)})
    assert (played.history, played.end) == ("a1 b1 d1 c1", "succeeded completed")


def test_a_task_like_one_in_the_plan_but_not_the_same_is_a_duplicate() -> None:
    """Rule 18."""
    other = Success("ok", Directives(new=[NewTask(template(3).clone("b"))]))
    assert play(draw("a > b"), {"a": other}).errors == {"a": "DuplicateTaskError"}


def test_a_group_waits_for_the_tasks_made_in_it_and_forgets_them_when_it_is_visited_again() -> None:
    """Rules 19 and 25."""
    graph = draw("h > g > h", g="m | n")
    player = Player(graph)
    player.settle("h")
    player.settle("m", make("d"))
    player.settle("n")
    assert player.waiting == "d"
    player.settle("d")
    player.settle("h")
    assert player.played().status("d") == "cancelled"
    player.settle("m")
    player.settle("n", make("d"))
    player.settle("d")
    player.settle("h", END_LOOP)
    assert player.played().history == "h1 m1 n1 d1 h2 m2 n2 d2 h3"


def test_loops_do_not_wait_for_made_tasks_and_rewinds_leave_them_alone() -> None:
    """Rule 19."""
    player = Player(draw("a > b > a"))
    player.settle("a", make("d"))
    player.settle("b")
    assert player.waiting == "d a"
    player.settle("a", goto("a"))
    assert player.waiting == "d a"


def test_a_made_task_that_fails_fails_its_makers_branch() -> None:
    """Rules 19 and 23: nor is the result of its last task passed on."""
    graph = adjust(draw(g="m | n"), g={"policy": best_effort})
    played = play(graph, {"m": make("d"), "d": BAD})
    assert (played.end, played.result("m"), played.result("g")) == ("succeeded completed", "ok", ["ok"])


def test_iterations_before_the_last_store_nothing_and_fire_nothing() -> None:
    """Rule 20."""
    player = Player(draw("a > b"))
    player.settle("a", ITERATE)
    assert (player.waiting, player.state.results) == ("a", {})
    assert player.state.iterations == {0: Iteration()}
    player.settle("a")
    assert (player.waiting, player.played().history) == ("b", "a1 a2")


# ---- ends, predecessors ----


def test_terminate_completes_the_task_and_cancels_the_rest() -> None:
    """Rule 21: a group that is not finished has no result, not even that of an earlier visit."""
    player = Player(draw("h > g > h", "z", g="m"))
    for name in ("h", "m", "h"):
        player.settle(name)
    assert player.played().result("g") == ["ok"]
    player.settle("z", TERMINATE)
    played = player.played()
    assert (played.end, played.those("cancelled"), played.result("z")) == ("succeeded terminated", "g m", "ok")
    assert played.state.find("g") not in played.state.results


def test_cancel_ends_the_run_whatever_else_was_asked() -> None:
    """Rules 16 and 21."""
    both = Success("ok", Directives(goto=["b"], terminate="yes", cancel="no"))
    for outcome in (CANCEL, both):
        played = play(draw("a > b", "c"), {"a": outcome})
        assert (played.history, played.end, played.those("cancelled")) == ("a1", "cancelled cancelled", "a c")
        assert played.state.results == {}


def test_what_ends_from_outside_stays_as_it_is() -> None:
    """Rule 21: later outcomes are refused."""
    player = Player(draw("a > b"))
    attempt = player.out[0]
    assert player.state.cancel("enough")
    assert not player.state.time_out("late")
    assert not player.state.settle(*attempt, TERMINATE)
    assert player.played().end == "cancelled cancelled"


def test_a_suspended_step_keeps_the_run_waiting_and_costs_nothing() -> None:
    """Rule 29."""
    player = Player(draw("a > b"))
    player.settle("a", ASK)
    assert (player.played().end, player.waiting) == ("suspended", "")
    player.resume("a")
    assert player.played().end == "running"
    player.settle("a")
    assert player.played().history == "a1 a1.2"
    assert (player.state.retries, player.state.steps) == ({}, 2)


def test_a_rewind_withdraws_a_suspended_step() -> None:
    """Rule 29: a late answer is refused."""
    player = Player(draw("a > b", "back"))
    player.settle("a")
    player.settle("b", ASK)
    player.settle("back", goto("a"))
    assert not player.state.resume(player.state.find("b") or 0, 1)
    assert player.waiting == "a"


def test_the_only_predecessor_is_the_only_one_whose_edge_fired() -> None:
    """Rule 30: for a branch's first task the group's, after a goto the task that went, for a made task its maker."""
    player = Player(draw("r > x > j", "r > y > j", "j > g", "j > k", g="m"))
    assert player.before("r") is None
    player.settle("r", goto("y"))
    player.settle("y", make("d"))
    assert (player.before("y"), player.before("j"), player.before("d")) == ("r", "y", "y")
    player.settle("d")
    player.settle("j")
    assert (player.before("m"), player.before("k")) == ("j", "j")
    player.settle("k", goto("j"))
    assert player.before("j") == "k"
    player.settle("j", goto("r"))
    for name in ("r", "x", "y"):
        player.settle(name)
    assert player.before("j") is None


def test_of_two_back_edges_neither_comes_from_the_only_predecessor() -> None:
    """Rule 30."""
    player = Player(draw("a > b > a", "a > c > a"))
    player.settle("a")
    player.settle("b")
    player.settle("c", goto("a"))
    assert (player.waiting, player.before("a")) == ("a", None)
    player.settle("a", goto("b"))
    player.settle("b")
    assert (player.waiting, player.before("a")) == ("a", "b")
