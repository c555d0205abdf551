"""How a child process is told where a function is."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest

from graflow import task
from graflow.errors import FunctionNotFoundError, SerializationError
from graflow.wire.functions import Code, code_for_child
from graflow.wire.keys import Signer
from graflow.wire.tasks import decode_task, encode_task
from tests.wire import functions_to_find as found

SIGNER = Signer.of("0123456789abcdef" * 2)


def test_a_function_of_a_module_is_imported() -> None:
    assert code_for_child(task(found.plain).spec, None) == Code("tests.wire.functions_to_find:plain")


def test_a_function_that_was_sent_by_name_is_not_looked_for_here() -> None:
    sent = decode_task(encode_task(task(found.plain)).replace(b"functions_to_find", b"functions_of_some"))
    assert code_for_child(sent.spec, None) == Code("tests.wire.functions_of_some:plain")


def test_what_cannot_be_imported_is_pickled_where_there_is_a_key_and_else_refused_with_both_ways_out() -> None:
    number = 20

    @task
    def local(add: int) -> int:
        return number + add

    with pytest.raises(FunctionNotFoundError, match=r"at the top level of a module .* or set GRAFLOW_SECRET_KEY"):
        code_for_child(local.spec, None)
    code = code_for_child(local.spec, SIGNER)
    assert code.pickled is not None
    assert pickle.loads(code.pickled)(3) == 23


def test_the_clones_of_a_function_are_pickled_once_and_anew_when_it_is_submitted_again() -> None:
    seen: list[int] = []
    sized = task(id="sized")(lambda: len(seen))
    first = code_for_child(sized.spec, SIGNER)
    seen.append(1)
    assert code_for_child(sized.clone("another").spec, SIGNER) is first
    again = code_for_child(sized.spec, SIGNER, again=True).pickled
    assert again is not None
    assert pickle.loads(again)() == 1


def test_what_a_function_holds_and_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"task half.*\.args\[0\] is a _thread\.lock") as caught:
        code_for_child(task(id="half")(partial(lambda held, x: (held, x), lock)).spec, SIGNER, task_id="half")
    assert caught.value.type_name == "_thread.lock"


SCRIPT = """
from graflow import task
from graflow.wire.functions import code_for_child
from graflow.wire.keys import Signer

@task
def one() -> int: return 1

print(code_for_child(one.spec, None))
try:
    print(code_for_child(task(id="l")(lambda: 1).spec, None))
except Exception as error:
    print(type(error).__name__)
"""


def run(*arguments: str, cwd: Path, text: str | None = None) -> list[str]:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, input=text, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_a_function_of_a_script_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    told = run("script.py", cwd=tmp_path)
    assert told == [f"Code(reference='__main__:one', pickled=None, main='{tmp_path / 'script.py'}')", "FunctionNotFoundError"]


def test_a_function_of_a_module_that_is_run_is_found_by_running_that_again(tmp_path: Path) -> None:
    (tmp_path / "module_of_test.py").write_text(SCRIPT)
    assert run("-m", "module_of_test", cwd=tmp_path)[0] == "Code(reference='__main__:one', pickled=None, main='-m module_of_test')"


def test_what_was_typed_in_cannot_be_found_again(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("-c", SCRIPT, cwd=tmp_path)
    assert "FunctionNotFoundError: 'one' cannot be run by a process or container of its own" in caught.value.stderr
