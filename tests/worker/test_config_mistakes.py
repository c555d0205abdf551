"""What is wrong with a file of workers, as a process says it: one line with file, line and key, and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from graflow.errors import ConfigurationError
from graflow.worker.configfile import read_document
from graflow.worker.entries import read_file
from tests.worker.commands import aworker

HEAD = "workers:\n  - id: a\n"

MISTAKES = {
    "nothing in it": ("", "w.yaml: the file is empty; give it a list of workers"),
    "only comments": ("# soon\n", "w.yaml: the file is empty"),
    "a list": ("- a\n", "w.yaml:1: give a mapping with the key workers, not ['a']"),
    "no workers": ("namespace: x\n", "w.yaml: workers: is missing; give a list of workers"),
    "an empty list": ("namespace: x\nworkers: []\n", "w.yaml:2: workers: give a list of workers, not []"),
    "no mapping": ("workers:\n  - a\n", "w.yaml:2: workers[0]: give a mapping, not 'a'"),
    "no id": ("workers:\n  - grace: 3\n", "w.yaml:2: workers[0]: id is missing; give each worker one"),
    "an id that is a number": ("workers:\n  - id: 7\n", "w.yaml:2: workers[0].id: give a text (in quotes, if need be), not 7"),
    "two of one id": (HEAD + "  - id: a\n", "w.yaml:3: workers[1].id: give each worker an id of its own (w.yaml:2 has it too), not 'a'"),
    "an unknown key at the top": ("worker: []\n", "w.yaml:1: worker: unknown key; did you mean 'workers'?"),
    "an unknown key of a worker": (
        HEAD + "    concurency: 3\n",
        "w.yaml:3: workers[0].concurency: unknown key; did you mean 'concurrency'?",
    ),
    "a secret": (
        "secret_key: abc\n" + HEAD,
        "w.yaml:1: secret_key: keys do not belong into a file; set GRAFLOW_SECRET_KEY in the environment",
    ),
    "a worker's secret": (HEAD + "    secret_key: abc\n", "w.yaml:3: workers[0].secret_key: keys do not belong into a file"),
    "zero concurrency": (HEAD + "    concurrency: 0\n", "w.yaml:3: workers[0].concurrency: give a whole number, 1 or more, not 0"),
    "a number as text": (HEAD + "    concurrency: '3'\n", "w.yaml:3: workers[0].concurrency: give a whole number, 1 or more, not '3'"),
    "yes": (HEAD + "    concurrency: yes\n", "w.yaml:3: workers[0].concurrency: give a whole number, 1 or more, not true"),
    "nothing given": (HEAD + "    namespace:\n", "w.yaml:3: workers[0].namespace: give a text (in quotes, if need be), not nothing"),
    "a time": (HEAD + "    grace: 1 min\n", "w.yaml:3: workers[0].grace: give a number of seconds, 0 or more, not '1 min'"),
    "no time": (HEAD + "    task_timeout: .nan\n", "w.yaml:3: workers[0].task_timeout: give a number of seconds, 0.001 or more, not nan"),
    "a level": (
        HEAD + "    log_level: LOUD\n",
        "w.yaml:3: workers[0].log_level: use one of DEBUG, INFO, WARNING, ERROR, CRITICAL, not 'LOUD'",
    ),
    "names": (HEAD + "    queues:\n      - a\n      - 3\n", "w.yaml:5: workers[0].queues[1]: give a text (in quotes, if need be), not 3"),
    "a name with a comma": (
        HEAD + "    queues: ['a,b']\n",
        "w.yaml:3: workers[0].queues[0]: give printable characters, without commas, and without blanks at the ends, not 'a,b'",
    ),
    "an unknown handler": (
        HEAD + "    handler_type: dokcer\n",
        "w.yaml:3: workers[0].handler_type: use coroutine, thread, process or docker, or give a class of your own under handlers, not 'dokcer'",
    ),
    "a handler that is none": (
        HEAD + "    handlers:\n      dokcer: {}\n",
        "w.yaml:4: workers[0].handlers.dokcer: is no kind of handler; did you mean 'docker'?",
    ),
    "a handler twice": (
        HEAD + "    handlers: [thread, process, async]\n",
        "w.yaml:3: workers[0].handlers[2]: name each handler once, not ",
    ),
    "both forms": (
        HEAD + "    handler_type: thread\n    handlers: [thread]\n",
        "w.yaml:4: workers[0].handlers: handler_type is there too; give one of them",
    ),
    "options of nothing": (HEAD + "    config: {}\n", "w.yaml:3: workers[0].config: is for the handler of handler_type, which is missing"),
    "a key twice": (HEAD + "    id: b\n", "w.yaml:3: is no configuration: 'id' is there twice, first on line 2"),
    "no YAML": ("workers:\n  - id: [a\n", "w.yaml:3: is no YAML: "),
    "a tab": ("workers:\n\t- id: a\n", "w.yaml:2: is no YAML: "),
    "a character": ("workers: \x01\n", "w.yaml:1: is no YAML: the character #x0001 may not be in it"),
    "a date that there is not": ("workers: 2020-13-45\n", "w.yaml: is no YAML: month must be in 1..12"),
    "a tag": ("workers: !!timestamp 1d\n", "w.yaml: is no YAML: a value does not fit its tag"),
    "a key that is no text": (HEAD + "? ", "w.yaml:1: [None]: unknown key; there are "),
    "two documents": (HEAD + "---\n" + HEAD, "w.yaml:3: is no YAML: but found another document"),
    "code": ("workers: !!python/object/apply:os.system [exit]\n", "w.yaml:1: is no YAML: could not determine a constructor"),
}  # fmt: skip
"""mistakes that are seen when the file is read"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_told_with_file_line_and_key(what: str) -> None:
    text, message = MISTAKES[what]
    Path("w.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_file("w.yaml")
    told = str(caught.value)
    assert told.startswith(message)
    assert "\n" not in told
    assert "abc" not in told


HANDLERS = HEAD + "  - id: b\n    handlers:\n      thread:\n"
OWN = "      mine:\n        type: "

PROCESSES = {
    "seen when it is read": (HEAD + "    concurency: 3\n", "w.yaml:3: workers[0].concurency: unknown key; did you mean 'concurrency'?"),
    "no YAML": ("workers: [\n", "w.yaml:2: is no YAML: "),
    "empty": ("", "w.yaml: the file is empty; give it a list of workers"),
    "an unknown option": (
        HANDLERS + "        thraeds: 3\n",
        "w.yaml:6: workers[1].handlers.thread.thraeds: unknown key; did you mean 'threads'?",
    ),
    "zero concurrency": (
        HANDLERS + "        threads: 0\n",
        "w.yaml:6: workers[1].handlers.thread.threads: give a whole number, 1 or more, not 0",
    ),
    "said twice": (
        HANDLERS + "        threads: 1\n        concurrency: 1\n",
        "w.yaml:6: workers[1].handlers.thread.threads: give concurrency or this",
    ),
    "a wrong type": (
        HANDLERS + "      process:\n        prewarm: few\n",
        "w.yaml:7: workers[1].handlers.process.prewarm: give a whole number, not 'few'",
    ),
    "a wrong type within": (
        HANDLERS + "      process:\n        environment:\n          A: a\n          DB_PASSWORD: 1234\n",
        "w.yaml:9: workers[1].handlers.process.environment.DB_PASSWORD: give a text (in quotes, if need be), not ***",
    ),
    "what the constructor refuses": (
        HANDLERS + "      process:\n        recycle_memory: much\n",
        "w.yaml:7: workers[1].handlers.process.recycle_memory: recycle_memory='much': give a size in bytes",
    ),
    "no module": (HANDLERS + OWN + "no_such_module:A\n", "w.yaml:7: workers[1].handlers.mine.type: no_such_module:A: cannot be imported"),
    "no class": (HANDLERS + OWN + "json:Nothing\n", "w.yaml:7: workers[1].handlers.mine.type: json has no Nothing"),
    "no handler": (
        HANDLERS + OWN + "json:JSONEncoder\n",
        "w.yaml:7: workers[1].handlers.mine.type: give a subclass of graflow.handlers.Handler",
    ),
    "an object": (
        HANDLERS + OWN + "tests.worker.shop:stamp\n        word: a\n",
        "w.yaml:8: workers[1].handlers.mine.word: tests.worker.shop:stamp is an object already",
    ),
    "an option of a class of one's own": (
        HANDLERS + OWN + "tests.worker.shop:StampHandler\n        words: a\n",
        "w.yaml:8: workers[1].handlers.mine.words: unknown key; did you mean 'word'?",
    ),
    "a class that cannot be made": (
        HANDLERS + OWN + "tests.worker.shop:Moody\n",
        "w.yaml:7: workers[1].handlers.mine.type: tests.worker.shop:Moody cannot be made: OSError: no device here",
    ),
    "no app": (HANDLERS + "    apps: [no_such_module]\n", "w.yaml:6: workers[1].apps[0]: no_such_module: cannot be imported"),
    "no URL": (HANDLERS + "    redis: redis://joe:abc@host/x\n", "w.yaml:6: workers[1].redis: the Redis URL is wrong"),
    "no server": (
        HANDLERS + "    redis: memory://\n",
        "w.yaml:6: workers[1].redis: a worker process cannot reach runs in another process's memory",
    ),
    "no namespace": (HANDLERS + "    namespace: 'a b'\n", "w.yaml:6: workers[1].namespace: 'a b' is no namespace"),
}  # fmt: skip
"""mistakes, most of them in the second of two workers: none is started then"""


@pytest.mark.parametrize("what", PROCESSES)
def test_a_mistake_is_one_line_and_exit_code_2_before_any_worker_is_started(what: str, tmp_path: Path) -> None:
    text, message = PROCESSES[what]
    Path("w.yaml").write_text(text)
    ran = aworker("--config", "w.yaml", cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(message)
    assert "abc" not in ran.complaint


@pytest.mark.parametrize("more", [("--worker", "b"), ("--check",), ("--check", "--json", "--worker", "b")])
def test_one_worker_and_the_check_say_the_same(more: tuple[str, ...], tmp_path: Path) -> None:
    text, message = PROCESSES["an unknown option"]
    Path("w.yaml").write_text(text)
    ran = aworker("--config", "w.yaml", *more, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint == message


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (("--config", "none.yaml"), {}, "none.yaml: cannot be read: No such file or directory"),
        (("--config", "."), {}, ".: give a file that ends with .yaml, .yml or .toml"),
        (("--config", "w.json"), {}, "w.json: give a file that ends with .yaml, .yml or .toml"),
        (("--config", "w.yaml", "--worker", "c"), {}, "--worker c: there is no such worker in w.yaml, which has a and b"),
        (("--config", "w.yaml", "--worker-id", "c"), {}, "--worker-id c: w.yaml has several workers, each with an id"),
        (("--queues", ""), {}, "--queues '': give one name at least, or several with commas"),
        (("--queues", ","), {}, "--queues ,: give one name at least, or several with commas"),
        (("--queues", "a\tb"), {}, "--queues 'a\\tb': give printable characters, without commas, and without blanks at the ends"),
        (("--handlers", ","), {}, "--handlers ,: give one name at least, or several with commas"),
        (("--config", "w.yaml"), {"WORKER_ID": "c"}, "WORKER_ID c: w.yaml has several workers, each with an id"),
        (("--config", "w.yaml"), {"MAX_CONCURRENT_TASKS": "0"}, "MAX_CONCURRENT_TASKS 0: give a whole number, 1 or more"),
        (("--config", "w.yaml"), {"HANDLER_TYPE": "magic"}, "HANDLER_TYPE: there is no handler 'magic'; use coroutine, thread, process or docker"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: tuple[str, ...], variables: dict[str, str], message: str, tmp_path: Path
) -> None:
    Path("w.yaml").write_text("workers: [{id: a}, {id: b}]")
    ran = aworker(*arguments, cwd=tmp_path, **variables)
    assert (ran.code, ran.out) == (2, "")
    assert ran.complaint.startswith(message)


# ---- TOML -----------------------------------------------------------------------------------------------------------

TOML = {
    "no TOML": ('[[workers]]\nid = "a"\ngrace 3\n', "w.toml:3: is no TOML: "),
    "a key twice": ('[[workers]]\nid = "a"\nid = "b"\n', "w.toml:3: is no TOML: Cannot overwrite a value"),
    "empty": ("# soon\n", "w.toml: the file is empty"),
    "an unknown key": (
        '[[workers]]\nid = "a"\n[[workers]]\nid = "b"\n\nqueue = "c"\n',
        "w.toml:6: workers[1].queue: unknown key; did you mean 'queues'?",
    ),
    "in a table": (
        '[[workers]]\nid = "a"\n[workers.handlers.mine]\nword = "a"\n',
        "w.toml:3: workers[0].handlers.mine: is no kind of handler",
    ),
    "on one line": ('workers = [{id = "a", grace = -1}]\n', "w.toml:1: workers[0].grace: give a number of seconds, 0 or more, not -1"),
    "behind dots": ('[[workers]]\nid = "a"\nhandlers.thread.type = 3\n', "w.toml:3: workers[0].handlers.thread.type: use coroutine"),
}  # fmt: skip


@pytest.mark.parametrize("what", TOML)
def test_a_mistake_in_toml_has_its_line_too(what: str) -> None:
    text, message = TOML[what]
    Path("w.toml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read_file("w.toml")
    assert str(caught.value).startswith(message)


# ---- files that nobody wrote in good faith --------------------------------------------------------------------------


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    Path("w.yaml").write_bytes(b"workers:\n  - id: \xff\n")
    with pytest.raises(ConfigurationError, match=r"^w\.yaml:2: is no text in UTF-8$"):
        read_document("w.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{n}: &{n} [{', '.join([f'*{before}'] * 9)}]\n" for before, n in zip("abcdefgh", "bcdefghi", strict=True)),
        "[" * 5000,
        "a: " + "{x: " * 3000 + "1" + "}" * 3000,
    ],
    ids=["billions of aliases", "deep and open", "deep"],
)  # fmt: skip
def test_a_file_that_would_take_for_ever_is_refused(text: str) -> None:
    Path("w.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"^w\.yaml.*: is no "):
        read_document("w.yaml")


def test_a_value_that_holds_itself_is_refused() -> None:
    Path("w.yaml").write_text("workers: &w\n  - *w\n")
    with pytest.raises(ConfigurationError, match=r"^w\.yaml:\d: workers\[0\]: give a mapping"):
        read_file("w.yaml")
