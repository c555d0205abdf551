"""Graflow's errors where it is not installed: the same names, parents and codes, made when they are first asked for.

A test compares the table with :mod:`graflow.errors`.
"""

from __future__ import annotations

from typing import Any

TREE: dict[str, tuple[str, str]] = {
    "HandlerError": ("GraflowError", "GF306"),
    "ChildDiedError": ("HandlerError", "GF307"), "OutOfMemoryError": ("HandlerError", "GF308"),
    "OutputLimitError": ("HandlerError", "GF309"), "ContainerEngineError": ("HandlerError", "GF310"),
    "ContainerLostError": ("HandlerError", "GF311"), "ImageNotFoundError": ("HandlerError", "GF312"),
    "PythonVersionError": ("HandlerError", "GF313"), "GraphError": ("GraflowError", "GF100"),
    "DuplicateTaskError": ("GraphError", "GF101"), "UnknownTaskError": ("GraphError", "GF102"),
    "EmptyGraphError": ("GraphError", "GF103"), "InvalidPolicyError": ("GraphError", "GF104"),
    "RunError": ("GraflowError", "GF200"), "TaskFailedError": ("RunError", "GF201"),
    "ParallelGroupError": ("TaskFailedError", "GF202"), "WorkflowCancelledError": ("RunError", "GF203"),
    "StepLimitExceededError": ("RunError", "GF204"), "CycleLimitExceededError": ("RunError", "GF205"),
    "RunTimeoutError": ("RunError", "GF206"), "RunLostError": ("RunError", "GF207"),
    "RunConflictError": ("RunError", "GF208"), "UnknownRunError": ("RunError", "GF209"),
    "MissingArgumentError": ("GraflowError", "GF301"), "ArgumentTypeError": ("GraflowError", "GF302"),
    "TaskTimeoutError": ("GraflowError", "GF303"), "WorkerLostError": ("GraflowError", "GF305"),
    "ChannelTypeError": ("GraflowError", "GF304"), "SerializationError": ("GraflowError", "GF401"),
    "UntrustedPayloadError": ("GraflowError", "GF402"), "FunctionNotFoundError": ("GraflowError", "GF403"),
    "QueueFullError": ("GraflowError", "GF501"), "BackendUnavailableError": ("GraflowError", "GF502"),
    "BackendUnsuitableError": ("GraflowError", "GF503"), "ConfigurationError": ("GraflowError", "GF504"),
}  # fmt: skip
"""parent and code by name"""
_made: dict[str, type[GraflowError]] = {}


class GraflowError(Exception):
    """The root of the errors."""

    code = "GF000"

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)


GraflowError.__module__ = "graflow.errors"


def error_class(name: str) -> type[GraflowError]:
    """The class of that name; one that this version does not know is a GraflowError."""
    if name == "GraflowError":
        return GraflowError
    kind = _made.get(name)
    if kind is None:
        parent, code = TREE.get(name, ("GraflowError", "GF000"))
        kind = _made[name] = type(name, (error_class(parent),), {"__module__": "graflow.errors", "code": code})
    return kind


def cannot_travel(path: str, type_name: str, what: str) -> GraflowError:
    """The error for a value that has no form on the wire; ``what`` says what is wrong and what to do instead."""
    return error_class("SerializationError")(f"{path} {what}", path=path, type_name=type_name)
