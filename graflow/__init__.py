"""Graflow runs graphs of Python functions: in this process, or on workers.

::

    from graflow import WorkflowEngine, task, workflow

    @task
    async def fetch() -> list[int]:
        return [1, 2, 3]

    @task
    def total(fetch: list[int]) -> int:
        return sum(fetch)

    with workflow("numbers") as wf:
        fetch >> total

    result = await wf.execute()
    result.output          # 6
"""

from graflow.core.chain import chain, parallel
from graflow.core.channel import Channel, SyncChannel, TypedChannel
from graflow.core.context import SyncTaskContext, TaskContext
from graflow.core.graph import TaskGraph
from graflow.core.node import Chain, Node, ParallelGroup
from graflow.core.outcome import TaskError
from graflow.core.policy import GroupPolicy, at_least_n, best_effort, critical, strict
from graflow.core.result import RunResult, RunStatus
from graflow.core.retry import RetryLater, RetryPolicy
from graflow.core.task import AsyncTask, SyncTask, Task, task
from graflow.core.workflow import Workflow, workflow
from graflow.engine import RunHandle, WorkflowEngine
from graflow.wire.messages import RunEvent
from graflow.worker import TaskWorker

__version__ = "0.1.0"

__all__ = [
    "AsyncTask",
    "Chain",
    "Channel",
    "GroupPolicy",
    "Node",
    "ParallelGroup",
    "RetryLater",
    "RetryPolicy",
    "RunEvent",
    "RunHandle",
    "RunResult",
    "RunStatus",
    "SyncChannel",
    "SyncTask",
    "SyncTaskContext",
    "Task",
    "TaskContext",
    "TaskError",
    "TaskGraph",
    "TaskWorker",
    "TypedChannel",
    "Workflow",
    "WorkflowEngine",
    "at_least_n",
    "best_effort",
    "chain",
    "critical",
    "parallel",
    "strict",
    "task",
    "workflow",
]
