"""Where the engine makes itself known, so that a workflow can be run without knowing any engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol

from graflow.core.node import Node
from graflow.errors import GraflowError

if TYPE_CHECKING:
    from graflow.core.result import RunResult

OnFailure = Literal["fail", "continue"]
Stubs = Mapping[Node[Any], Callable[..., Any]]


class Launcher(Protocol):
    """Executes a graph in memory, in this process."""

    def execute(
        self,
        graph: Any,
        /,
        *,
        inputs: Mapping[str, Any] | None,
        start: Node[Any] | str | None,
        run_id: str | None,
        timeout: float | None,
        max_steps: int | None,
        on_failure: OnFailure,
        stubs: Stubs | None,
    ) -> Awaitable[RunResult[Any]]:
        """See :meth:`graflow.WorkflowEngine.execute`."""
        ...

    def run(
        self,
        graph: Any,
        /,
        *,
        inputs: Mapping[str, Any] | None,
        start: Node[Any] | str | None,
        run_id: str | None,
        timeout: float | None,
        max_steps: int | None,
        on_failure: OnFailure,
        stubs: Stubs | None,
    ) -> RunResult[Any]:
        """The same in an event loop of its own.

        Raises GraflowError inside a running one, saying to ``await wf.execute(...)``.
        """
        ...


_registered: list[Launcher] = []


def register(launcher: Launcher) -> None:
    """Make ``launcher`` the one that workflows run by. The last one counts."""
    _registered[:] = [launcher]


def current() -> Launcher:
    """The launcher that was registered. Raises GraflowError when there is none."""
    if not _registered:
        raise GraflowError("no engine is loaded to run the workflow; import graflow, not graflow.core alone")
    return _registered[0]
