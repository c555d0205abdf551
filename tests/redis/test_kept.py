"""What a process remembers of plans."""

from __future__ import annotations

from graflow.backends.redis.kept import KEPT, NODES, Kept


def test_the_oldest_goes_when_there_are_too_many() -> None:
    kept: Kept[int, str] = Kept()
    for number in range(KEPT + 2):
        kept.put(number, str(number), 1)
    assert len(kept) == KEPT
    assert kept.get(1) is None
    assert kept.get(2) == "2"


def test_the_oldest_go_when_there_are_too_many_nodes() -> None:
    kept: Kept[str, str] = Kept()
    for name in ("a", "b", "c"):
        kept.put(name, name.upper(), NODES // 3)
    kept.put("d", "D", NODES // 2)
    assert [kept.get(name) for name in "abcd"] == [None, None, "C", "D"]


def test_one_that_is_larger_than_all_the_room_is_kept_alone() -> None:
    kept: Kept[str, int] = Kept()
    kept.put("small", 1, 1)
    kept.put("huge", 2, 2 * NODES)
    assert (kept.get("small"), kept.get("huge")) == (None, 2)
    kept.put("next", 3, 1)
    assert (kept.get("huge"), kept.get("next")) == (None, 3)


def test_what_is_put_again_counts_once_and_is_the_newest() -> None:
    kept: Kept[str, int] = Kept()
    kept.put("a", 1, NODES // 2)
    kept.put("b", 2, NODES // 2)
    kept.put("a", 3, NODES // 2)
    assert (kept.get("a"), kept.get("b")) == (3, 2)
    assert kept.make_room(NODES // 2) == ["b"]
    kept.drop("a")
    assert kept.make_room(NODES) == []
