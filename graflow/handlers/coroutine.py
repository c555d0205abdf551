"""Coroutines, on the worker's event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graflow.handlers.base import Handler

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from graflow.handlers.base import TaskCall


class CoroutineHandler(Handler):
    """Awaits ``async def`` tasks where the worker runs. On a timeout or a stop they are cancelled at their next await."""

    def run(self, call: TaskCall) -> Awaitable[Any]:
        """The task's own coroutine. A ``def`` given to this handler still runs in a thread: nothing may block the loop."""
        return call.invoke()
