"""A worker from what it was told: the modules of its tasks imported, its handlers made, nothing connected yet.

The file, for ``graflow-aworker --config FILE`` and for :func:`create_worker`, is described in ``docs/workers.md``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from graflow.backends import REMOTE, open_backend
from graflow.errors import ConfigurationError
from graflow.worker.apps import import_module
from graflow.worker.assembly import build, retold
from graflow.worker.given import masked
from graflow.worker.settings import Settings, read_entry
from graflow.worker.worker import TaskWorker

if TYPE_CHECKING:
    from graflow.backends.base import Backend

__all__ = ["assemble", "create_worker"]


def create_worker(
    file: str | os.PathLike[str], worker: str | None = None, backend_or_url: str | Backend | None = None, **options: Any
) -> TaskWorker:
    """A worker of a configuration file, in this process. Environment variables beat what the file says, as they do for ``graflow-aworker``.

    Args:
        file: YAML or TOML.
        worker: its id; None for the only one.
        backend_or_url: where work comes from, instead of what file and environment say.
        options: more for :class:`~graflow.worker.worker.TaskWorker`, such as ``lifespan``.

    Raises:
        ConfigurationError: a mistake in the file, with line and key.

    Example:
        >>> async with create_worker("workers.yaml", "fast_worker"):
        ...     ...
    """
    return assemble(read_entry(file, worker, os.environ), backend_or_url, **options)


def assemble(settings: Settings, backend_or_url: str | Backend | None = None, *, remote: bool = False, **options: Any) -> TaskWorker:
    """The worker of these settings. ``remote`` is for one that is a process of its own, which cannot reach another's memory.

    Raises:
        ConfigurationError: something in them makes no sense, or a module cannot be imported; the message is one line.
    """
    try:
        where = settings.url if backend_or_url is None else backend_or_url
        if remote:
            _check_server(settings)
        backend = open_backend(where, namespace=settings.namespace)
        for module in settings.apps:
            import_module(module.value, module)
        worker = TaskWorker(
            backend,
            handlers={name: build(plan) for name, plan in settings.handlers.items()},
            concurrency=settings.concurrency,
            queues=settings.queues,
            worker_id=settings.worker_id,
            serve=tuple(settings.handlers),
            task_timeout=settings.task_timeout,
            grace=settings.grace,
            **options,
        )
        worker.retell = lambda name, error: retold(settings.handlers[name], error) if name in settings.handlers else error
        return worker
    except ConfigurationError as error:
        raise settings.placed(error) from error


def _check_server(settings: Settings) -> None:
    scheme = urlsplit(settings.url).scheme
    if scheme == "memory":
        raise ConfigurationError(
            "a worker process cannot reach runs in another process's memory; give the URL of a server", setting="redis"
        )
    if scheme not in REMOTE:
        text = f"{masked('', settings.url)!r} is no URL of a server; use redis://HOST:6379/0, rediss://HOST:6379/0 or unix:///PATH"
        raise ConfigurationError(text, setting="redis")
