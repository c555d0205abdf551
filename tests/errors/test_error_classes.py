"""The tree of errors: a code for each, fields that can be read, and nothing lost on the way to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest

from graflow import RunResult, RunStatus, TaskGraph, WorkflowEngine, errors, parallel, task
from graflow.errors import GraflowError

RESULT = RunResult("r", RunStatus.FAILED, results={"a": 1})

SAMPLES: dict[str, GraflowError] = {
    error.__class__.__name__: error
    for error in (
        errors.GraflowError("text"),
        errors.GraphError("text", ids=["a", "b"]),
        errors.DuplicateTaskError("text", ids=("a",)),
        errors.UnknownTaskError("text", ids=("a",), known=["b"]),
        errors.EmptyGraphError("text"),
        errors.InvalidPolicyError("text", ids=("a",)),
        errors.RunError("text", run_id="r", result=RESULT),
        errors.TaskFailedError(
            "text", run_id="r", task_id="a", attempt=2, error_type="ValueError", remote_traceback="Traceback ...", result=RESULT
        ),
        errors.ParallelGroupError(
            "text",
            run_id="r",
            group_id="g",
            failed={"a": errors.TaskFailedError("inner", run_id="r", task_id="a")},
            succeeded=["b"],
            cancelled=["c"],
            result=RESULT,
        ),
        errors.WorkflowCancelledError("text", run_id="r", reason="why", task_id="a", result=RESULT),
        errors.StepLimitExceededError("text", run_id="r", task_id="a", limit=5, result=RESULT),
        errors.CycleLimitExceededError("text", run_id="r", task_id="a", limit=5, result=RESULT),
        errors.RunTimeoutError("text", run_id="r", timeout=1.5, result=RESULT),
        errors.RunLostError("text", run_id="r"),
        errors.RunConflictError("text", run_id="r"),
        errors.UnknownRunError("text", run_id="r"),
        errors.MissingArgumentError("text", task_id="a", parameter="p", available=["b"]),
        errors.ArgumentTypeError("text", task_id="a", parameter="p", expected="int", got="str"),
        errors.TaskTimeoutError("text", task_id="a", timeout=1.5),
        errors.WorkerLostError("text", task_id="a", workers=4),
        errors.HandlerError("text", task_id="a"),
        errors.ChildDiedError("text", task_id="a", exit_code=3),
        errors.OutOfMemoryError("text", task_id="a", limit=5),
        errors.OutputLimitError("text", task_id="a", limit=5),
        errors.ContainerEngineError("text", task_id="a", host="unix:///docker.sock"),
        errors.ContainerLostError("text", task_id="a", container="c"),
        errors.ImageNotFoundError("text", task_id="a", image="python:3.11-slim"),
        errors.PythonVersionError("text", task_id="a", here="3.11", there="3.12"),
        errors.ChannelTypeError("text", key="k", expected="a list", got="int"),
        errors.SerializationError("text", path="inputs", type_name="lock"),
        errors.UntrustedPayloadError("text"),
        errors.FunctionNotFoundError("text", reference="module:name"),
        errors.QueueFullError("text", queue="default", limit=5),
        errors.BackendUnavailableError("text"),
        errors.BackendUnsuitableError("text"),
        errors.ConfigurationError("text", setting="url"),
    )
}

CODES = {
    "GraflowError": "GF000",
    "GraphError": "GF100",
    "DuplicateTaskError": "GF101",
    "UnknownTaskError": "GF102",
    "EmptyGraphError": "GF103",
    "InvalidPolicyError": "GF104",
    "RunError": "GF200",
    "TaskFailedError": "GF201",
    "ParallelGroupError": "GF202",
    "WorkflowCancelledError": "GF203",
    "StepLimitExceededError": "GF204",
    "CycleLimitExceededError": "GF205",
    "RunTimeoutError": "GF206",
    "RunLostError": "GF207",
    "RunConflictError": "GF208",
    "UnknownRunError": "GF209",
    "MissingArgumentError": "GF301",
    "ArgumentTypeError": "GF302",
    "TaskTimeoutError": "GF303",
    "WorkerLostError": "GF305",
    "ChannelTypeError": "GF304",
    "HandlerError": "GF306",
    "ChildDiedError": "GF307",
    "OutOfMemoryError": "GF308",
    "OutputLimitError": "GF309",
    "ContainerEngineError": "GF310",
    "ContainerLostError": "GF311",
    "ImageNotFoundError": "GF312",
    "PythonVersionError": "GF313",
    "SerializationError": "GF401",
    "UntrustedPayloadError": "GF402",
    "FunctionNotFoundError": "GF403",
    "QueueFullError": "GF501",
    "BackendUnavailableError": "GF502",
    "BackendUnsuitableError": "GF503",
    "ConfigurationError": "GF504",
}
"""Written out, because alerts are keyed by them: a code is never changed or given away again."""


def classes() -> dict[str, type[GraflowError]]:
    return {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GraflowError)}


def fields(error: BaseException) -> dict[str, Any]:
    """What an error says, in a form that can be compared."""
    return {name: fields(value) if isinstance(value, BaseException) else _plain(value) for name, value in vars(error).items()} | {
        "": str(error)
    }


def _plain(value: Any) -> Any:
    return {name: fields(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def test_every_class_has_a_sample_here() -> None:
    assert set(SAMPLES) == set(classes())


def test_every_class_has_a_stable_code_of_its_own() -> None:
    assert {name: kind.code for name, kind in classes().items()} == CODES
    assert len(set(CODES.values())) == len(CODES)


def test_every_class_stands_in_the_drawing_of_the_tree_where_it_is_in_the_tree() -> None:
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        name = next((word for word in line.replace("─", " ").split() if word in CODES), None)
        if name is None or line.strip().startswith("Each"):
            continue
        depth = line.index(name)
        above = [(column, parent) for column, parent in above if column < depth]
        drawn[name] = above[-1][1] if above else "Exception"
        above.append((depth, name))
    assert drawn == {name: kind.__bases__[0].__name__ for name, kind in classes().items()}


@pytest.mark.parametrize("error", SAMPLES.values(), ids=SAMPLES)
def test_an_error_can_be_pickled_and_copied_with_all_its_fields(error: GraflowError) -> None:
    error.add_note("a note")
    ways = [
        copy.copy,
        copy.deepcopy,
        *(lambda error, p=p: pickle.loads(pickle.dumps(error, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ]
    for way in ways:
        twin = way(error)
        assert type(twin) is type(error)
        assert fields(twin) == fields(error)
        assert twin.__notes__ == ["a note"]
        assert repr(twin) == repr(error)


class Declined(errors.GraphError):
    """An error of somebody else's making."""

    def __init__(self, card: str) -> None:
        super().__init__(f"{card} was declined", ids=(card,))
        self.card = card


def test_a_subclass_with_arguments_of_its_own_can_be_pickled_too() -> None:
    twin = pickle.loads(pickle.dumps(Declined("visa")))
    assert (type(twin), str(twin), twin.card, twin.ids) == (Declined, "visa was declined", "visa", ("visa",))


def test_fields_are_copies_that_cannot_be_changed_from_elsewhere() -> None:
    ids, failed = ["a"], {"a": ValueError()}
    graph_error = errors.GraphError("text", ids=ids)
    group_error = errors.ParallelGroupError("text", run_id="r", group_id="g", failed=failed, succeeded=ids, cancelled=ids)
    ids.append("b")
    failed.clear()
    assert graph_error.ids == ("a",)
    assert (list(group_error.failed), group_error.succeeded, group_error.cancelled) == (["a"], ["a"], ["a"])


@task
async def one() -> int:
    return 1


@task
async def failing() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("graph", [failing, one >> failing, parallel(one, failing, name="g")])
async def test_the_error_of_a_run_can_be_pickled_with_its_result(graph: TaskGraph) -> None:
    async with WorkflowEngine() as engine:
        with pytest.raises(errors.TaskFailedError) as caught:
            await engine.execute(graph, run_id="r")
    twin = pickle.loads(pickle.dumps(caught.value))
    assert str(twin) == str(caught.value)
    assert twin.result.status == RunStatus.FAILED
    assert dict(twin.result.results) == dict(caught.value.result.results)
    assert list(twin.result.errors) == list(caught.value.result.errors)
    assert twin.remote_traceback == caught.value.remote_traceback
