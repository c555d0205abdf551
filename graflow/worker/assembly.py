"""Handlers from what a worker was told: found by kind or by name, their options checked against their constructors."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import re
import types
import typing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from graflow.core.hints import namespace_of
from graflow.core.naming import close_matches
from graflow.errors import ConfigurationError, ContainerEngineError, GraflowError, HandlerError, ImageNotFoundError
from graflow.handlers import Handler
from graflow.worker.apps import import_module
from graflow.worker.given import DEFAULT, Given, as_list, as_mapping, concurrency, limit, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "coroutine": ("graflow.handlers.coroutine", "CoroutineHandler"),
    "thread": ("graflow.handlers.thread", "ThreadHandler"),
    "process": ("graflow.handlers.process", "ProcessHandler"),
    "docker": ("graflow.handlers.docker", "DockerHandler"),
}
"""the module and class of each kind, imported when a worker is to have one"""
BY_DEFAULT: Final = ("coroutine", "thread", "process")
"""what a worker serves that was told nothing: all but what needs an engine"""
ALSO_CALLED: Final = {"inprocess": "coroutine", "async": "thread"}
"""names that other versions of Graflow had for them"""

_OWN_WORDS: Final = {"thread": "threads", "process": "processes"}
"""what their constructors call ``concurrency``"""
_WORDS: Final = {
    "int": "a whole number", "float": "a number", "str": "a text (in quotes, if need be)", "bool": "true or false",
    "object": "a mapping", "array": "a list", "null": "nothing",
}  # fmt: skip


@dataclass(frozen=True)
class HandlerPlan:
    """A handler that a worker is to have.

    Attributes:
        name: what tasks call it.
        kind: one of :data:`KINDS` or ``module:Class``, and where it was said.
        options: what its constructor is given, besides ``concurrency`` and ``timeout``, which every handler has.
    """

    name: str
    kind: Given
    options: Mapping[str, Given] = field(default_factory=dict[str, Given])

    @classmethod
    def of(cls, name: str, kind: Given, options: Mapping[str, Given]) -> HandlerPlan:
        """With what the constructor of this kind calls ``concurrency`` under that name.

        Raises:
            ConfigurationError: it is there by both names.
        """
        word = _OWN_WORDS.get(kind.value)
        if word is not None and word in options and "concurrency" in options:
            raise options[word].refuse("give concurrency or this: both mean the same")
        return cls(name, kind, {"concurrency" if option == word else option: given for option, given in options.items()})

    def having(self, **options: Given) -> HandlerPlan:
        """The same with other options in place of those that it has."""
        return replace(self, options={**self.options, **options})


def known_kind(name: str) -> str | None:
    """The kind of that name, by whichever name; None when there is none."""
    found = ALSO_CALLED.get(name.lower(), name.lower())
    return found if found in KINDS else None


def kind_of(given: Given) -> Given:
    """A kind of handler as it is to be.

    Raises:
        ConfigurationError: it is neither the name of one nor ``module:Class``.
    """
    if isinstance(given.value, str):
        known = known_kind(given.value)
        if known is not None:
            return given.but(known)
        if re.fullmatch(r"[\w.]+:[\w.]+", given.value):
            return given
    raise given.refuse(f"use {listed(list(KINDS), 'or')}, or the module:Class of a handler of your own")


def build(plan: HandlerPlan) -> Handler:
    """The handler.

    Raises:
        ConfigurationError: an option that there is not or that makes no sense, by its place; or no such class.
    """
    options = {name: given for name, given in plan.options.items() if name not in ("concurrency", "timeout")}
    most = plan.options.get("concurrency")
    timeout = plan.options.get("timeout")
    if most is not None:
        most = most.but(concurrency(most))
    if timeout is not None:
        timeout = timeout.but(limit(timeout))
    found = _found(plan)
    if isinstance(found, Handler):
        if options:
            name, given = next(iter(options.items()))
            raise _unknown(name, given, f"{plan.kind.value} is an object already, which takes no options")
        handler = found
    else:
        parameters = parameters_of(found)
        word = _OWN_WORDS.get(plan.kind.value, "concurrency")
        if most is not None and word in parameters:
            options[word], most = most, None
        if timeout is not None and "timeout" in parameters:
            options["timeout"], timeout = timeout, None
        _check(found, parameters, options)
        handler = _made(plan, found, options)
    if most is not None:
        handler.concurrency = most.value
    if timeout is not None:
        handler.timeout = timeout.value
    return handler


def _found(plan: HandlerPlan) -> type[Handler] | Handler:
    kind, given = plan.kind.value, plan.kind
    if kind in KINDS:
        module, name = KINDS[kind]
        built_in: type[Handler] = getattr(importlib.import_module(module), name)
        return built_in
    module, _, name = kind.partition(":")
    found: Any = import_module(module, given)
    for part in name.split("."):
        if not hasattr(found, part):
            raise given.refuse(f"{module} has no {name}; give the module:Class of a handler")
        found = getattr(found, part)
    if isinstance(found, Handler):
        return found
    if isinstance(found, type) and issubclass(found, Handler):
        return found
    raise given.refuse("give a subclass of graflow.handlers.Handler, or an object of one")


def parameters_of(found: type[Handler]) -> Mapping[str, inspect.Parameter]:
    """What the constructor of a handler takes by name."""
    if found.__init__ is object.__init__:
        return {}
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL
    return {name: each for name, each in inspect.signature(found).parameters.items() if each.kind not in positional}


# ---- options --------------------------------------------------------------------------------------------------------


def _check(found: type[Handler], parameters: Mapping[str, inspect.Parameter], options: Mapping[str, Given]) -> None:
    takes_any = [name for name, each in parameters.items() if each.kind is inspect.Parameter.VAR_KEYWORD]
    known = {name for name in parameters if name not in takes_any} | {"concurrency", "timeout"}
    for name, given in options.items():
        if name not in known and not takes_any:
            raise _unknown(name, given, unknown_key(name, known))
        if name in parameters:
            _fit(given, _hint(found, parameters[name]))


def unknown_key(name: str, known: Iterable[str]) -> str:
    """What to say of a key that means nothing."""
    every = sorted(known)
    guess = close_matches(name, every).strip()
    return f"unknown key; {guess or f'there are {listed(every)}'}"


def _unknown(name: str, given: Given, why: str) -> ConfigurationError:
    return ConfigurationError(f"{given.place}: {why}", setting=given.key or name)


def _hint(found: type[Handler], parameter: inspect.Parameter) -> Any:
    """The annotation of a parameter. What it names may be imported for type checkers only, and is then looked for where it comes from mostly."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    usual = {**vars(typing), **vars(collections.abc)}
    holder = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns={**usual, **namespace_of(found)})["it"]
    except (NameError, TypeError, AttributeError, SyntaxError):
        return Any


def _fit(given: Given, hint: Any) -> None:
    """Make sure that a value is of the type that is asked for. Which values make sense, the constructor knows better."""
    try:
        msgspec.convert(given.value, hint)
    except msgspec.ValidationError as error:
        if _is_of_kind(given.value, hint):
            for name, value in (as_mapping(given.value) or {}).items():  # which of them is it?
                _fit_item(given.item(str(name), value), {name: value}, hint)
            for number, value in enumerate(as_list(given.value) or ()):
                _fit_item(given.item(number, value), [value], hint)
        elif (kind := _kind_of(given.value)) is not None:  # an environment, written as a list, may hold what is not for a log
            text = f"{given.place}: {_advice(error)}, not {kind}"
            raise ConfigurationError(text, setting=given.key or given.source) from error
        raise given.refuse(_advice(error)) from error
    except TypeError:  # a type that comes from no file; the constructor looks at it
        return


def _kind_of(value: Any) -> str | None:
    """What holds others, in a word."""
    if as_mapping(value) is not None:
        return "a mapping"
    return "a list" if as_list(value) is not None else None


def _is_of_kind(value: Any, hint: Any) -> bool:
    """Whether it is what is in a mapping or a list that does not fit, and not that it is one."""
    try:
        msgspec.convert(type(value)(), hint)
    except msgspec.ValidationError:
        return False
    return True


def _fit_item(given: Given, alone: Any, hint: Any) -> None:
    try:
        msgspec.convert(alone, hint)
    except msgspec.ValidationError as error:
        raise given.refuse(_advice(error)) from error


def _advice(error: msgspec.ValidationError) -> str:
    wanted = re.match(r"Expected `([^`]+)`", str(error))
    if wanted is None:
        return " ".join(str(error).split())
    return f"give {listed([_WORDS.get(each.strip(), each.strip()) for each in wanted[1].split('|')], 'or')}"


def _made(plan: HandlerPlan, found: Callable[..., Handler], options: Mapping[str, Given]) -> Handler:
    try:
        return found(**{name: given.value for name, given in options.items()})
    except ConfigurationError as error:
        raise _retold(plan, options, error) from error
    except GraflowError:
        raise
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigurationError(f"{plan.kind.place}: {plan.kind.value} cannot be made: {what}", setting=plan.name) from error


def _retold(plan: HandlerPlan, options: Mapping[str, Given], error: ConfigurationError) -> ConfigurationError:
    """What a constructor says, at the place of the option that it says it about."""
    option, bracket, inside = error.setting.partition("[")
    about = re.match(r"(?:.*\.)?(\w+)", option)
    given = options.get(about[1]) if about is not None else None
    if given is not None and bracket:
        given = _within(given, re.findall(r"\w+|(?<=')[^']+(?='\])", inside))
    if given is None or given.source == DEFAULT:
        given = plan.kind
    if given.source == DEFAULT:
        return error
    text = " ".join(str(error).split())
    several = as_mapping(given.value)
    if several is not None:  # an environment may hold what is not for a log
        text = text.replace(repr(several), "...")
    return ConfigurationError(f"{given.place}: {text}", setting=given.key or error.setting)


def _within(given: Given, names: Iterable[str]) -> Given:
    """What is inside of a mapping, as far as it is there."""
    for name in names:
        inner = as_mapping(given.value)
        if inner is None or name not in inner:
            break
        given = given.item(name, inner[name])
    return given


def retold(plan: HandlerPlan, error: GraflowError) -> GraflowError:
    """What a handler says when it starts, at the place of what it says it about; as it is where there is none, or nobody knows."""
    if isinstance(error, ConfigurationError):
        return _retold(plan, plan.options, error)
    if isinstance(error, ImageNotFoundError):
        return ImageNotFoundError(_at(plan, "image", error), image=error.image)
    if isinstance(error, ContainerEngineError):
        return ContainerEngineError(_at(plan, "host", error), host=error.host)
    return HandlerError(_at(plan, "type", error)) if type(error) is HandlerError else error


def _at(plan: HandlerPlan, option: str, error: GraflowError) -> str:
    given = plan.options.get(option, plan.kind)
    return str(error) if given.source == DEFAULT else f"{given.place}: {error}"


# ---- for those who ask ----------------------------------------------------------------------------------------------


def effective_options(plan: HandlerPlan, handler: Handler, most: Given, timeout: Given) -> dict[str, Given]:
    """Every option of a handler that was made of a plan, with where it came from.

    ``most`` and ``timeout`` are the worker's ``concurrency`` and ``task_timeout``, for a handler that has none of its own.
    """
    word = _OWN_WORDS.get(plan.kind.value, "concurrency")
    found = dict(plan.options)
    own = found.pop("concurrency", None)
    if own is None:
        own = most if handler.concurrency is None else Given(handler.concurrency)
    limit = found.pop("timeout", None)
    if limit is None:
        limit = timeout if handler.timeout is None else Given(handler.timeout)
    options = {"concurrency": own, "timeout": limit}  # those that all handlers have
    for name, parameter in parameters_of(type(handler)).items():
        if name not in (word, *options) and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            options[name] = found.pop(name, Given(None if parameter.default is inspect.Parameter.empty else parameter.default))
    return options | found
