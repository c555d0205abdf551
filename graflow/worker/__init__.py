"""The worker: fetch, run, settle. The same over every backend; the engine in memory runs one of its own."""

from graflow.worker.metrics import WorkerMetrics as WorkerMetrics
from graflow.worker.worker import TaskWorker as TaskWorker

__all__ = ["TaskWorker", "WorkerMetrics"]
