from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graflow.draw.channels import DOWN, LEFT, RIGHT, UP, Channel, Crossing, route

STEPS = {UP: (-1, 0), DOWN: (1, 0), LEFT: (0, -1), RIGHT: (0, 1)}
OPPOSITE = {UP: DOWN, DOWN: UP, LEFT: RIGHT, RIGHT: LEFT}


def crossing(tops: set[int], bottoms: set[int]) -> Crossing:
    return Crossing(frozenset(tops), frozenset(bottoms))


def check(channel: Channel, nets: dict[int, Crossing]) -> None:
    """Every net hangs together, reaches what it joins and nothing else, and meets others only where the one crosses the other."""
    for here in channel.cells.values():
        assert len(here) == 1 or sorted(here.values()) == sorted([UP | DOWN, LEFT | RIGHT])
    for net, joined in nets.items():
        cells = {place: here[net] for place, here in channel.cells.items() if net in here}
        tops = {column for (track, column), ends in cells.items() if track == 0 and ends & UP}
        bottoms = {column for (track, column), ends in cells.items() if track == channel.tracks - 1 and ends & DOWN}
        assert (tops, bottoms) == (joined.tops, joined.bottoms) or channel.tracks == 0
        for (track, column), ends in cells.items():
            for end, (down, right) in STEPS.items():
                beyond = (track + down, column + right)
                if ends & end and 0 <= beyond[0] < channel.tracks:
                    assert cells.get(beyond, 0) & OPPOSITE[end], f"net {net} ends in nothing at {track}, {column}"
        assert channel.tracks == 0 or _reached(cells) == cells.keys()


def _reached(cells: dict[tuple[int, int], int]) -> set[tuple[int, int]]:
    work = [next(iter(cells))]
    reached = set(work)
    while work:
        track, column = work.pop()
        for end, (down, right) in STEPS.items():
            beyond = (track + down, column + right)
            if cells[track, column] & end and beyond in cells and beyond not in reached:
                reached.add(beyond)
                work.append(beyond)
    return reached


def test_nets_that_run_straight_need_no_track() -> None:
    channel = route({0: crossing({3}, {3}), 1: crossing({7}, {7})}, 10)
    assert channel is not None
    assert channel.tracks == 0


def test_two_nets_that_change_places_are_led_around_each_other() -> None:
    nets = {0: crossing({0}, {4}), 1: crossing({4}, {0})}
    channel = route(nets, 6)
    assert channel is not None
    assert channel.tracks == 3
    check(channel, nets)


def test_where_there_is_no_room_to_lead_them_around_there_is_no_way() -> None:
    assert route({0: crossing({0}, {1}), 1: crossing({1}, {0})}, 2) is None


@st.composite
def crossings(draw: st.DrawFn) -> dict[int, Crossing]:
    count = draw(st.integers(1, 8))
    columns = st.lists(st.integers(0, 29), min_size=count, max_size=20, unique=True)
    sides = []
    for ports in (draw(columns), draw(columns)):
        owners = [*range(count), *(draw(st.integers(0, count - 1)) for _ in ports[count:])]
        sides.append([{port for port, owner in zip(ports, owners, strict=True) if owner == net} for net in range(count)])
    return {net: crossing(sides[0][net], sides[1][net]) for net in range(count)}


@given(crossings())
def test_any_nets_can_be_led_where_they_have_to_go(nets: dict[int, Crossing]) -> None:
    channel = route(nets, 60)
    assert channel is not None
    check(channel, nets)
