"""One call in a child: find the function, give it its context, and answer with what came of it."""

from __future__ import annotations

import contextvars
import functools
import importlib
import inspect
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from graflow.handlers.inside.boundary import UserCode
from graflow.handlers.inside.functions import Functions, NotFound
from graflow.handlers.inside.msgpack import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from graflow.handlers.inside.link import Link
    from graflow.handlers.inside.output import PrintedLines


class Kit:
    """What a child does one way where Graflow is installed, and another way where it is not.

    Attributes:
        encode: a value as bytes; ``name`` is what it is called in errors.
        decode: and back.
        make_context: the context of a call, for an ``async def`` or a ``def``.
        directives: what the task asked of its run, in plain values.
        scope: around a call of a run: where there is a key, signed values of that run can be opened and made inside.
    """

    def __init__(
        self,
        encode: Callable[..., bytes],
        decode: Callable[[bytes], Any],
        make_context: Callable[[Requests, dict[str, Any], bool], Any],
        directives: Callable[[Any], dict[str, Any] | None],
        scope: Callable[[str], AbstractContextManager[Any]],
    ) -> None:
        self.encode = encode
        self.decode = decode
        self.make_context = make_context
        self.directives = directives
        self.scope = scope


class Requests:
    """What one call can ask of the worker. Its number goes along: a thread that a task leaves behind shall not speak for the next one."""

    def __init__(self, link: Link, kit: Kit, number: int) -> None:
        self._link = link
        self._kit = kit
        self._number = number

    @property
    def cancelled(self) -> bool:
        """Whether the task was told to stop."""
        self._link.listen()
        return self._link.cancelled

    async def ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Ask, and let the event loop go on meanwhile; what the worker raises is raised here."""
        return self._read(await self._link.ask_waiting(*self._request(name, args, kwargs)))

    def ask_blocking(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Ask, and block this thread."""
        return self._read(self._link.ask_blocking(*self._request(name, args, kwargs)))

    async def ask_at_once(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """For coroutines that a thread runs by :func:`~graflow.handlers.inside.link.finish`."""
        return self.ask_blocking(name, *args, **kwargs)

    def tell(self, type: str, data: dict[str, Any]) -> None:
        """Tell the run's observers something."""
        self._link.send("tell", self._number, type, self._kit.encode(data, name=f"{type} of a task"))

    def _request(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, str, bytes]:
        return self._number, name, self._kit.encode([list(args), kwargs], name=f"arguments of {name}")

    def _read(self, frame: list[Any]) -> Any:
        _, _, good, data = frame
        if good:
            return self._kit.decode(data)
        raise _made_again(*self._kit.decode(data))


def _made_again(reference: str, message: str, args: list[Any] | None, state: dict[str, Any] | None) -> BaseException:
    kind = _error_class(reference)
    if kind is None:
        return RuntimeError(f"{reference.rpartition(':')[2]}: {message}")
    error: BaseException = kind.__new__(kind, *(args or ()))
    error.args = tuple(args) if args is not None else (message,)
    error.__dict__.update(state or {})
    return error


def _error_class(reference: str) -> Any:
    """An exception class by its name, None where it is not known here. Graflow's own are, be it installed or not, and whether or not the task's
    module has imported them."""
    module, _, name = reference.partition(":")
    kind: Any = getattr(sys.modules.get(module), name, None)
    if kind is None and module.partition(".")[0] == "graflow":
        kind = getattr(importlib.import_module("graflow.errors"), name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


class Caller:
    """Runs calls, one after the other, in the main thread.

    Args:
        link: where the answers go.
        kit: how values travel.
        printed: streams to be emptied before an answer is sent, lest its lines be taken for those of the next call.
    """

    def __init__(self, link: Link, kit: Kit, printed: Iterable[PrintedLines]) -> None:
        self._link = link
        self._kit = kit
        self._printed = tuple(printed)
        self._functions = Functions()

    def call(self, number: int, what: dict[str, Any]) -> None:
        """Run one call and send its answer."""
        self._link.cancelled, self._link.number = False, number
        self._link.mark(number)
        answer = b""
        with UserCode() as code:
            answer = pack(["done", number, *contextvars.Context().run(self._run, number, what)])
        if self._link.copied:  # the task has forked, and this is the copy: the answer is the other's
            os._exit(0 if code.error is None else 1)
        for stream in self._printed:
            stream.finish()
        if what["measure"]:
            self._link.send("memory", number, resident())
        if isinstance(code.error, NotFound):
            self._link.send("missing", number, str(code.error))
        elif code.error is not None:
            self._link.send("failed", number, *self._described(code.error))
        else:
            self._link.write(answer)

    def _run(self, number: int, what: dict[str, Any]) -> tuple[Any, ...]:
        function = self._functions.find(what["reference"], what["pickled"], what["main"])
        with self._kit.scope(what["who"]["run_id"]):
            arguments: dict[str, Any] = self._kit.decode(what["arguments"])
            context = self._kit.make_context(Requests(self._link, self._kit, number), what["who"], what["is_async"])
            if what["context"] is not None:
                arguments[what["context"]] = context
            value = invoke(function, arguments)
            return self._kit.encode(value, name=f"result of {what['who']['task_id']}"), self._kit.directives(context)

    def _can_travel(self, value: Any) -> bool:
        with UserCode() as code:
            self._kit.encode(value)
        return code.error is None

    def _described(self, error: BaseException) -> tuple[Any, ...]:
        names = [_name_of(kind) for kind in type(error).__mro__ if kind not in (object, BaseException)]
        message = "<its __str__ raised>"
        with UserCode():
            message = str(error)
        trace = "".join(traceback.format_exception(type(error), error, _below_here(error)))
        state: bytes | None = None
        attributes = {name: each for name, each in vars(error).items() if self._can_travel(each)}
        args = list(error.args) if self._can_travel(list(error.args)) else [message]  # its text has to do where they cannot
        with UserCode():
            state = self._kit.encode([args, attributes])
        return names, *(text.encode("utf-8", "backslashreplace").decode() for text in (message, trace)), state


def _name_of(kind: type) -> str:
    """The name of a class. The main program has another name here than where it was started."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def _below_here(error: BaseException) -> Any:
    """The traceback from the task's own code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace or error.__traceback__


def invoke(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Call a function with arguments by name, also where parameters can be passed by position only. What can be awaited is run to its end."""
    value = _called(function, arguments)
    if not inspect.isawaitable(value):
        return value
    import asyncio

    return asyncio.run(_awaited(value))


async def _awaited(value: Any) -> Any:
    return await value


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    by_place = _by_place(function)
    if not by_place:
        return function(**arguments)
    positional: list[Any] = []
    for each in by_place:
        if each.name not in arguments and each.default is inspect.Parameter.empty:
            break
        positional.append(arguments.pop(each.name, each.default))
    return function(*positional, **arguments)


@functools.lru_cache(maxsize=256)
def _by_place(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function).parameters.values()
    return [each for each in parameters if each.kind is inspect.Parameter.POSITIONAL_ONLY]


def resident() -> int:
    """The memory in bytes that this process takes now; 0 where that cannot be found out."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
