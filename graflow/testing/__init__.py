"""For tests of graphs and tasks.

::

    from graflow import testing

    async def test_the_report_survives_two_failures():
        async with testing.engine() as engine:                     # retries, timeouts and sleeps take no time
            result = await engine.execute(wf, stubs={fetch: flaky})
        assert result[report] == "..."

    async def test_the_router_sends_bugs_to_triage():
        ctx = testing.context()
        await route(ctx, "it crashes")                             # a task is called like the function that it is
        assert ctx.directives == [("goto", "triage")]

    def test_the_report_runs_on_workers():
        assert testing.check_portable(wf) == []                    # or what of it cannot be sent, and where that is
"""

from graflow.testing.clock import VirtualClock as VirtualClock
from graflow.testing.context import FakeContext as FakeContext
from graflow.testing.context import SyncFakeContext as SyncFakeContext
from graflow.testing.context import context as context
from graflow.testing.context import sync_context as sync_context
from graflow.testing.engine import VirtualEngine as VirtualEngine
from graflow.testing.engine import engine as engine
from graflow.testing.portable import check_portable as check_portable

__all__ = ["FakeContext", "SyncFakeContext", "VirtualClock", "VirtualEngine", "check_portable", "context", "engine", "sync_context"]
