from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow import RetryPolicy, RunEvent, TaskContext, WorkflowEngine, task, workflow
from graflow.observe.spans import Span, spans_of
from graflow.observe.timeline import draw_spans, timeline

BEGIN = datetime(2026, 11, 21, tzinfo=UTC)
SVG = "{http://www.w3.org/2000/svg}"


def event(seconds: float, type: str, task_id: str | None = None, attempt: int | None = 1, **data: Any) -> RunEvent:
    return RunEvent(f"{seconds}", type, task_id, BEGIN + timedelta(seconds=seconds), attempt, data)


def bars(svg: str) -> dict[str, list[ElementTree.Element]]:
    """The rectangles that tell something, by the first line of what they tell."""
    found: dict[str, list[ElementTree.Element]] = defaultdict(list)
    for rectangle in ElementTree.fromstring(svg).iter(f"{SVG}rect"):
        title = rectangle.find(f"{SVG}title")
        if title is not None and title.text:
            found[title.text.split("\n")[0]].append(rectangle)
    return found


# ---- spans ----


def test_every_attempt_is_a_span_with_its_outcome() -> None:
    assert spans_of(
        [
            event(0, "run_started", None, None),
            event(0, "task_started", "a"),
            event(1, "task_retrying", "a", error_type="OSError", message="no route"),
            event(3, "task_started", "a", 2),
            event(4, "task_failed", "a", 2, error_type="ValueError", message="bad"),
            event(4, "task_started", "b"),
            event(5, "task_suspended", "b", reason="answer"),
            event(6, "task_started", "c"),
            event(7, "task_cancelled", "c"),
            event(8, "task_started", "d"),
            event(9, "iteration", "d"),
            event(9, "task_started", "d"),
            event(10, "task_succeeded", "d"),
            event(10, "task_started", "e"),
            event(11, "task_refused", "e", reason="no_key"),
        ]
    ) == [
        Span("a", 0, 1, "retried", 1, 0, "OSError: no route"),
        Span("a", 3, 4, "failed", 2, 0, "ValueError: bad"),
        Span("b", 4, 5, "suspended"),
        Span("c", 6, 7, "cancelled"),
        Span("d", 8, 9, "succeeded"),
        Span("d", 9, 10, "succeeded"),
        Span("e", 10, 11, "cancelled"),
    ]


def test_what_is_still_running_at_the_end_ends_there() -> None:
    events = [event(0, "task_started", "a"), event(2, "run_finished", None, None)]
    assert spans_of(events) == [Span("a", 0, 2, "cancelled")]


def test_what_never_ran_is_no_span() -> None:
    assert (
        spans_of(
            [
                event(0, "task_skipped", "a"),
                event(0, "task_cancelled", "b"),
                event(0, "group_started", "g"),
                event(1, "group_succeeded", "g"),
            ]
        )
        == []
    )


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10)), max_size=40))
def test_lanes_are_as_few_as_ran_side_by_side_and_hold_one_at_a_time(times: list[tuple[int, int]]) -> None:
    happened = [(begin, 1, event(begin, "task_started", f"t{n}")) for n, (begin, _) in enumerate(times)]
    happened += [(begin + took, 0 if took else 2, event(begin + took, "task_succeeded", f"t{n}")) for n, (begin, took) in enumerate(times)]
    spans = spans_of(each for _, _, each in sorted(happened, key=lambda each: each[:2]))
    assert len(spans) == len(times)
    lanes: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        lanes[span.lane].append(span)
    for held in lanes.values():
        assert all(one.end <= other.start for one, other in pairwise(held))
    longer = [span for span in spans if span.end > span.start]
    most = max((sum(span.start <= other.start < span.end for span in longer) for other in longer), default=0)
    assert len({span.lane for span in longer}) <= max(most, 1)


async def test_the_events_of_a_real_run_make_spans() -> None:
    @task(retry=RetryPolicy(max_retries=1, initial_interval=0.001, jitter=False))
    async def flaky(ctx: TaskContext) -> list[int]:
        if ctx.attempt == 1:
            raise OSError("try again")
        return [1, 2, 3]

    @task
    async def square(n: int) -> int:
        return n * n

    with workflow("w") as wf:
        wf.add(flaky >> square.map(flaky))
    async with WorkflowEngine() as engine:
        handle = await engine.submit(wf)
        spans = spans_of([each async for each in handle.events()])
    assert [(span.task_id, span.outcome, span.attempt) for span in spans[:2]] == [("flaky", "retried", 1), ("flaky", "succeeded", 2)]
    assert {span.kind for span in spans} == {"flaky", "square"}
    assert len(spans) == 5


# ---- pictures ----


def test_bars_stand_where_their_times_are() -> None:
    svg = draw_spans([Span("a", 0, 2, "succeeded"), Span("b", 2, 4, "succeeded"), Span("c", 1, 4, "succeeded", lane=1)], "three")
    found = bars(svg)
    (a,), (b,), (c,) = found["a"], found["b"], found["c"]
    assert float(a.attrib["x"]) + float(a.attrib["width"]) == pytest.approx(float(b.attrib["x"]))
    assert float(c.attrib["width"]) == pytest.approx(1.5 * float(a.attrib["width"]), abs=0.02)
    assert a.attrib["y"] == b.attrib["y"] < c.attrib["y"]


def test_a_failed_attempt_has_the_colour_of_failure_and_says_why() -> None:
    found = bars(
        draw_spans([Span("a[0]", 0, 2, "succeeded"), Span("a[1]", 0, 1, "failed", lane=1, message="ValueError: <bad> & worse")], "two")
    )
    (failed,) = found["a[1]"]
    assert failed.attrib["fill"] == "#d62728"
    assert "failed: ValueError: <bad> & worse" in (failed.find(f"{SVG}title").text or "")
    (well,) = found["a[0]"]
    assert well.attrib["fill"] != failed.attrib["fill"]
    assert "a: 2 times, 1 failed, longest 2.00 s" in found


def test_the_axis_is_in_seconds_with_few_round_numbers() -> None:
    for end, labels in [
        (0.83, ["0.0 s", "0.1 s", "0.9 s"]),
        (9.2, ["0 s", "1 s", "10 s"]),
        (374, ["0 s", "50 s", "400 s"]),
        (0.004, ["0.0000 s", "0.0005 s"]),
    ]:
        words = [each.text for each in ElementTree.fromstring(draw_spans([Span("a", 0, end, "succeeded")], "t")).iter(f"{SVG}text")]
        assert [label for label in labels if label not in words] == []


def test_many_kinds_of_tasks_share_a_row_in_the_end() -> None:
    found = bars(draw_spans([Span(f"task{n}", n, n + 1, "succeeded") for n in range(40)], "many"))
    assert "27 other tasks: 27 times, longest 1.00 s" in found
    assert "task39" in found


@given(st.text(), st.text(min_size=1), st.text())
def test_any_text_makes_a_well_formed_picture(title: str, task_id: str, message: str) -> None:
    ElementTree.fromstring(draw_spans([Span(task_id, 0, 1, "failed", message=message)], title).encode("utf-8"))


def test_a_run_in_which_nothing_ran_makes_a_picture_too() -> None:
    assert "nothing ran" in timeline([event(0, "run_started", None, None)], "empty")
