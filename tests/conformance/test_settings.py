"""What a backend is told when it is made, and what makes no sense."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from graflow.backends.memory import MemoryBackend
from graflow.backends.redis.backend import RedisBackend
from graflow.errors import ConfigurationError

Make = Callable[..., Any]
ON_REDIS: Make = partial(RedisBackend, "redis://localhost:6379/0")


@pytest.mark.parametrize("make", [MemoryBackend, ON_REDIS], ids=["memory", "redis"])
@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        *(
            ("retention", value, "give the seconds that a run is kept after its end, from 1 to 3153600000")
            for value in (0, -1, float("nan"), float("inf"), "x", True, None, 1e18, 10**400)
        ),
        *(
            ("queue_limit", value, "give how many attempts may wait at once, 1 or more, or None for any number")
            for value in (0, -1, 1.5, "x", True)
        ),
    ],
)
def test_what_every_backend_refuses(make: Make, setting: str, value: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**{setting: value})
    assert caught.value.setting == setting
    assert str(caught.value) == f"{setting}={value!r}: {advice}"


@pytest.mark.parametrize(
    ("setting", "value", "advice"),
    [
        *(
            (grace, value, "give the seconds that an unknown function is left to other workers, 0 or more")
            for grace in ("unknown_grace", "refused_grace")
            for value in (-1, float("nan"), float("inf"), "x", None)
        ),
        *(("heart", value, 'use "process" or "loop"') for value in ("x", None, 1)),
    ],
)
def test_what_only_a_server_has(setting: str, value: Any, advice: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ON_REDIS(**{setting: value})
    assert caught.value.setting == setting
    assert str(caught.value) == f"{setting}={value!r}: {advice}"
