"""A handler whose children are plain Pythons: no Graflow, no msgspec, nothing but the standard library, as in a container of a bare image."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from graflow.handlers import Handler, TaskCall
from graflow.handlers.child import Pipes
from graflow.handlers.conversation import Conversation
from graflow.handlers.shipping import BOOT
from graflow.wire.functions import code_for_child

PYTHON = os.path.join(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
ROOT = Path(__file__).parents[2]


class PlainChildren(Handler):
    """Starts a plain Python for each call."""

    def __init__(self, code: Path) -> None:
        self._code = code

    async def run(self, call: TaskCall) -> Any:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(PYTHON, "-I", "-S", "-c", BOOT, stdin=pipe, stdout=pipe)
        conversation = Conversation(Pipes(process), where="in a plain Python", output_limit=1 << 24, trusted=False)
        try:
            await conversation.begin(path=[str(self._code)], keep_path=True)
            return await conversation.run(call, code_for_child(call.task.spec, None))
        finally:
            process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined]


def only_the_tests(folder: Path) -> Path:
    """A folder that holds the package of these tests and nothing of Graflow."""
    package = folder / "tests"
    package.mkdir()
    (package / "__init__.py").write_text('"""Tests."""\n')
    (package / "handlers").symlink_to(ROOT / "tests" / "handlers")
    return folder
