"""A backend in virtual time, with nobody at work on it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from graflow.backends.memory import MemoryBackend
from graflow.testing import VirtualClock


@pytest.fixture
async def clock() -> AsyncIterator[VirtualClock]:
    with VirtualClock() as clock:
        yield clock


@pytest.fixture
async def backend(clock: VirtualClock) -> AsyncIterator[MemoryBackend]:
    backend = MemoryBackend(clock=clock)
    yield backend
    await backend.close()
