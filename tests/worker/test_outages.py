"""A worker outlives its backend's being away for longer than it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from graflow import TaskWorker, task
from graflow.backends.base import Delivery, Slots
from graflow.backends.memory import MemoryBackend
from graflow.errors import BackendUnavailableError
from tests.conformance.hands import Bench, finished


@task
async def one() -> int:
    return 1


def fail_once(monkeypatch: pytest.MonkeyPatch, backend: MemoryBackend, name: str) -> None:
    """Let the next call of a coordinator's method go unanswered."""
    real = getattr(backend.coordinator, name)

    async def away(*args: Any) -> Any:
        monkeypatch.setattr(backend.coordinator, name, real)
        raise BackendUnavailableError("nobody answers")

    monkeypatch.setattr(backend.coordinator, name, away)


async def test_a_fetch_that_got_no_answer_is_made_again(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_once(monkeypatch, backend, "fetch")
    async with TaskWorker(backend, worker_id="w"):
        await Bench(backend).submit(one)
        assert (await finished(backend)).output == 1
    assert caplog.messages == ["worker w cannot fetch work: nobody answers"]


async def test_an_outcome_that_could_not_be_written_is_told_of_and_the_worker_goes_on(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[Delivery] = []
    real = backend.coordinator.settle

    async def away(settled: Sequence[tuple[Delivery, Any]], slots: Slots) -> list[Delivery]:
        monkeypatch.setattr(backend.coordinator, "settle", real)
        lost.extend(delivery for delivery, _ in settled)
        raise BackendUnavailableError("nobody answers")

    monkeypatch.setattr(backend.coordinator, "settle", away)
    async with TaskWorker(backend, worker_id="w"):
        await Bench(backend).submit(one)
        await asyncio.sleep(1)
        assert caplog.messages == ["worker w cannot write the outcome of task one of run r: nobody answers"]
        await backend.coordinator.release(lost)  # as is done with what dead workers held
        assert (await finished(backend)).output == 1
