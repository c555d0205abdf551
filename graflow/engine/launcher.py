"""Workflows that bring their own engine: ``await wf.execute()`` and ``wf.run()``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from graflow.core import launch
from graflow.engine.engine import WorkflowEngine
from graflow.errors import GraflowError

if TYPE_CHECKING:
    from graflow.core.result import RunResult


class MemoryLauncher:
    """Runs a workflow on an engine in memory that lives as long as the run."""

    @classmethod
    def register(cls) -> None:
        """Make this the way workflows are run."""
        launch.register(cls())

    async def execute(self, graph: Any, /, **options: Any) -> RunResult[Any]:
        """See :meth:`WorkflowEngine.execute`, which takes the same options."""
        async with WorkflowEngine() as engine:
            return await engine.execute(graph, **options)

    def run(self, graph: Any, /, **options: Any) -> RunResult[Any]:
        """The same in an event loop of its own."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self.execute(graph, **options))
        raise GraflowError("wf.run() starts an event loop of its own, and one is running here already; use: await wf.execute(...)")
