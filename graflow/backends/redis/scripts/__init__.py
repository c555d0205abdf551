"""The Lua scripts, each in a file of its own, and what finds them."""

from __future__ import annotations

import hashlib
from importlib.resources import files


class Script:
    """A script as the server knows it.

    ``parts`` are names of files in this package, without ``.lua``, in the order in which they are put together: what they share comes first. Without
    any, the script is the one file of its own name. Files are read at once, so that a missing one is an error of the import and not of a run.

    There is no shebang line: Redis 6.2 does not know it, and with one a script may not reach keys that it was not given.
    """

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, *parts: str, text: str | None = None) -> None:
        self.name = name
        self.text: str = "\n".join(map(_read, parts or (name,))) if text is None else text
        # The name by which the server keeps a script, not a protection of anything.
        self.sha: str = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name} {self.sha[:8]}>"


def _read(part: str) -> str:
    return files(__name__).joinpath(f"{part}.lua").read_text("utf-8")
