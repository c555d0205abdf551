"""What an application holds: the engine, a handle on each run, and results."""

from graflow.engine.engine import WorkflowEngine as WorkflowEngine
from graflow.engine.handle import RunHandle as RunHandle
from graflow.engine.launcher import MemoryLauncher

MemoryLauncher.register()

__all__ = ["RunHandle", "WorkflowEngine"]
