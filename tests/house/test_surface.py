"""The names that users have in their code. A change here is a change to every program written against Graflow."""

from __future__ import annotations

import importlib

import pytest

import graflow.errors
from graflow.errors import GraflowError


def names(text: str) -> list[str]:
    return text.split()


PUBLIC = names("""
    task workflow chain parallel Task TaskGraph ParallelGroup Workflow Node Chain
    RetryPolicy RetryLater GroupPolicy strict best_effort at_least_n critical
    TaskContext SyncTaskContext Channel SyncChannel TypedChannel TaskError
    AsyncTask SyncTask WorkflowEngine RunHandle RunResult RunStatus RunEvent TaskWorker
""")

HANDLERS = names("Handler TaskCall CoroutineHandler ThreadHandler DockerHandler ProcessHandler")

ERRORS = {
    "GraflowError": names("""
        GraphError RunError MissingArgumentError ArgumentTypeError TaskTimeoutError WorkerLostError ChannelTypeError HandlerError SerializationError
        UntrustedPayloadError FunctionNotFoundError QueueFullError BackendUnavailableError BackendUnsuitableError
        ConfigurationError
    """),
    "GraphError": names("DuplicateTaskError UnknownTaskError EmptyGraphError InvalidPolicyError"),
    "RunError": names("""
        TaskFailedError WorkflowCancelledError StepLimitExceededError CycleLimitExceededError RunTimeoutError
        RunLostError RunConflictError UnknownRunError
    """),
    "TaskFailedError": ["ParallelGroupError"],
    "HandlerError": names("""
        ChildDiedError OutOfMemoryError OutputLimitError ContainerEngineError ContainerLostError ImageNotFoundError PythonVersionError
    """),
}


def error_classes() -> list[type[GraflowError]]:
    return [each for each in vars(graflow.errors).values() if isinstance(each, type) and issubclass(each, GraflowError)]


def test_the_package_exports_the_public_names_and_no_others() -> None:
    assert sorted(graflow.__all__) == sorted(PUBLIC)
    assert [name for name in PUBLIC if not hasattr(graflow, name)] == []


def test_the_handlers_are_where_users_look_for_them() -> None:
    handlers = importlib.import_module("graflow.handlers")
    assert [name for name in HANDLERS if not hasattr(handlers, name)] == []
    assert sorted(set(HANDLERS) - set(handlers.__all__)) == []


@pytest.mark.parametrize(("parent", "children"), ERRORS.items())
def test_the_errors_form_the_promised_tree(parent: str, children: list[str]) -> None:
    for child in children:
        assert getattr(graflow.errors, child).__base__ is getattr(graflow.errors, parent)


def test_every_error_stands_in_the_promised_tree_and_in_the_drawn_one() -> None:
    promised = {"GraflowError"}.union(*ERRORS.values())
    assert {each.__name__ for each in error_classes()} == promised
    drawing = graflow.errors.__doc__ or ""
    assert [name for name in promised if name not in drawing] == []


def test_every_error_has_a_code_of_its_own() -> None:
    codes = {each.__name__: each.__dict__.get("code") for each in error_classes()}
    assert None not in codes.values()
    assert len(set(codes.values())) == len(codes)
