"""Whether a graph could be run by other processes, before it is submitted to any."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from graflow.engine.planning import plan_of
from graflow.errors import FunctionNotFoundError, SerializationError
from graflow.wire.keys import Signer, signer_of
from graflow.wire.signing import RunSigner, signing_for
from graflow.wire.tasks import TaskWriter, encode_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from graflow.core.graph import TaskGraph
    from graflow.core.node import Node
    from graflow.core.workflow import Workflow


def check_portable(graph: Node[Any] | Workflow[Any] | TaskGraph, *, signed: bool | None = None) -> list[str]:
    """What of a graph cannot travel to workers, one line for each task or group: where in its function, policy or bound arguments something is that
    cannot be sent, such as a lock or a client, and what to do instead. Nothing is sent, and nothing is run.

    Args:
        graph: a workflow, a ``TaskGraph``, a task, a chain or a group.
        signed: whether code that cannot be imported may travel as a signed pickle; by default, whether ``GRAFLOW_SECRET_KEY`` is set.

    Raises:
        GraphError: the graph cannot be built.
        ConfigurationError: something would have to be pickled, and cloudpickle is not installed.

    Example::

        def test_the_report_runs_on_workers() -> None:
            assert testing.check_portable(report) == []
    """
    plan = plan_of(graph, None)
    if signed is None:
        signed = signer_of() is not None
    signer = Signer({"check": secrets.token_bytes(32)}) if signed else None
    problems: list[str] = []
    with signing_for(signer, "check") as run:
        for task in plan.every_task():
            _note(problems, partial(encode_task, task, signing=run))
        for node, group in enumerate(plan.groups):
            if group is not None and group.policy.function is not None:
                _note(problems, partial(_policy, group.policy.function, plan.ids[node], run))
    return problems


def _policy(function: Any, group_id: str, signing: RunSigner | None) -> None:
    writer = TaskWriter(None, signing)
    writer.refer(function, group_id, "policy")
    writer.sign()


def _note(problems: list[str], tried: Callable[[], object]) -> None:
    try:
        tried()
    except (FunctionNotFoundError, SerializationError) as error:
        problems.append(str(error))
