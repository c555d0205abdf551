"""What a configuration file says of each of its workers, checked key by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from graflow.core.naming import close_matches
from graflow.errors import ConfigurationError
from graflow.worker.assembly import KINDS, HandlerPlan, kind_of, known_kind, unknown_key
from graflow.worker.configfile import read_document
from graflow.worker.given import Given, as_list, as_mapping, checked, label, listed, text

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from graflow.worker.configfile import Document, Keys

GENERAL: Final = ("redis", "namespace", "apps", "concurrency", "queues", "task_timeout", "grace", "log_level")
"""what may be said of one worker, and at the top of the file of all"""
_OF_A_WORKER: Final = ("id", "handler_type", "config", "handlers", *GENERAL)


@dataclass(frozen=True)
class Entry:
    """A worker of the file.

    Attributes:
        name: its id.
        settings: what is said of it, by name.
        handlers: what it serves, by the name that tasks use; None for the usual ones.
    """

    name: Given
    settings: Mapping[str, Given]
    handlers: Mapping[str, HandlerPlan] | None


@dataclass(frozen=True)
class ConfigFile:
    """A file of workers.

    Attributes:
        name: the file.
        settings: what holds for each worker that says nothing else.
        entries: the workers, by id.
    """

    name: str
    settings: Mapping[str, Given]
    entries: Mapping[str, Entry]

    def entry(self, wanted: str, source: str = "--worker") -> Entry:
        """The worker of that id.

        Raises:
            ConfigurationError: there is none.
        """
        if wanted not in self.entries:
            known = listed(list(self.entries))
            raise ConfigurationError(f"{source} {wanted}: there is no such worker in {self.name}, which has {known}", setting="worker")
        return self.entries[wanted]


def read_file(path: str | os.PathLike[str]) -> ConfigFile:
    """The workers of a file, all of them checked.

    Raises:
        ConfigurationError: a mistake in it, with file, line and key; the message is one line.
    """
    document = read_document(path)
    top = _Section(document, (), document.data)
    top.only(("workers", *GENERAL))
    workers = as_list(top.values.get("workers"))
    if not workers:
        if "workers" not in top.values:
            raise ConfigurationError(f"{document.name}: workers: is missing; give a list of workers", setting="workers")
        raise top.given("workers").refuse("give a list of workers")
    entries: dict[str, Entry] = {}
    for number, values in enumerate(workers):
        entry = _entry(_section(document, ("workers", number), values))
        before = entries.setdefault(text(entry.name), entry)
        if before is not entry:
            raise entry.name.refuse(f"give each worker an id of its own ({before.name.source} has it too)")
    return ConfigFile(document.name, top.general(), entries)


class _Section:
    """A mapping of the file, and the way to it."""

    def __init__(self, document: Document, keys: Keys, values: Mapping[str, Any]) -> None:
        self.document = document
        self.keys = keys
        self.values = values

    def only(self, known: Iterable[str]) -> None:
        """Nothing is to be there but this."""
        every = list(known)
        for key in self.values:
            if key in every:
                continue
            if str(key).lower() in ("secret_key", "graflow_secret_key"):
                raise self.mistake(key, "keys do not belong into a file; set GRAFLOW_SECRET_KEY in the environment")
            raise self.mistake(key, unknown_key(str(key), every))

    def given(self, key: str) -> Given:
        """What is there by that key."""
        return self.document.given((*self.keys, key), self.values[key])

    def general(self) -> dict[str, Given]:
        """What is said for the worker as a whole."""
        return {name: checked(name, self.given(name)) for name in GENERAL if name in self.values}

    def inner(self, key: str) -> _Section:
        """The mapping by that key; nothing is an empty one."""
        return _section(self.document, (*self.keys, key), {} if self.values[key] is None else self.values[key])

    def mistake(self, key: str, what: str) -> ConfigurationError:
        """The error about that key."""
        return self.document.mistake((*self.keys, key), what)


def _section(document: Document, keys: Keys, values: Any) -> _Section:
    found = as_mapping(values)
    if found is None:
        raise document.given(keys, values).refuse("give a mapping")
    return _Section(document, keys, found)


def _entry(section: _Section) -> Entry:
    section.only(_OF_A_WORKER)
    if "id" not in section.values:
        raise section.document.mistake(section.keys, "id is missing; give each worker one")
    name = section.given("id")
    label(name)
    settings = section.general()
    if "handler_type" in section.values:
        if "handlers" in section.values:
            raise section.mistake("handlers", "handler_type is there too; give one of them")
        return Entry(name, settings, _only_handler(section))
    if "config" in section.values:
        raise section.mistake("config", "is for the handler of handler_type, which is missing")
    return Entry(name, settings, _handlers(section) if "handlers" in section.values else None)


def _only_handler(section: _Section) -> dict[str, HandlerPlan]:
    """``handler_type`` with its ``config``: the worker serves this one."""
    given = section.given("handler_type")
    known = known_kind(given.value) if isinstance(given.value, str) else None
    if known is None:
        raise given.refuse(f"use {listed(list(KINDS), 'or')}, or give a class of your own under handlers")
    options: dict[str, Given] = {}
    if "config" in section.values:
        config = section.inner("config")
        options = {key: config.given(key) for key in config.values}
    return {known: HandlerPlan.of(known, given.but(known), options)}


def _handlers(section: _Section) -> dict[str, HandlerPlan]:
    """``handlers``: a mapping of names to what they are, or just the names of kinds."""
    given = section.given("handlers")
    kinds = [kind_of(given.item(number, name)) for number, name in enumerate(as_list(given.value) or ())]
    for number, kind in enumerate(kinds):
        if kind.value in [each.value for each in kinds[:number]]:
            raise kind.refuse("name each handler once")
    if kinds and all(kind.value in KINDS for kind in kinds):
        return {kind.value: HandlerPlan(kind.value, kind) for kind in kinds}
    if not as_mapping(given.value):
        raise given.refuse("give a mapping of names to handlers, or a list of kinds")
    plans: dict[str, HandlerPlan] = {}
    inside = section.inner("handlers")
    for name in inside.values:
        plan = _handler(name, inside)
        if plans.setdefault(plan.name, plan) is not plan:
            raise inside.mistake(name, f"{plan.name} is there twice")
    return plans


def _handler(name: Any, inside: _Section) -> HandlerPlan:
    if not isinstance(name, str) or not name:
        raise inside.mistake(name, "the name of a handler is a text that is not empty")
    own = inside.inner(name)
    options = {key: own.given(key) for key in own.values if key != "type"}
    known = known_kind(name)
    if "type" in own.values:
        return HandlerPlan.of(known or name, kind_of(own.given("type")), options)
    if known is None:
        guess = close_matches(name, KINDS)
        raise inside.mistake(name, f"is no kind of handler; {guess}give its type: {listed(list(KINDS), 'or')}, or module:Class")
    return HandlerPlan.of(known, inside.given(name).but(known), options)
