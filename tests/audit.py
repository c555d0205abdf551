"""What Python's own audit tells of pickles."""

from __future__ import annotations

import sys
from typing import Any


class Unpickled:
    """What has been looked up for a pickle while it was ``on``."""

    def __init__(self) -> None:
        self.on = False
        self.names: list[str] = []
        sys.addaudithook(self._hear)  # for good: Python knows no other way

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event == "pickle.find_class":
            self.names.append(f"{arguments[0]}.{arguments[1]}")


UNPICKLED = Unpickled()
