"""How the child's program gets into the child: as text, on its standard input, so that neither image nor command line has to hold it."""

from __future__ import annotations

import struct
from functools import cache
from importlib import resources
from typing import Final

PARTS: Final = ("errors", "msgpack", "values", "boundary", "link", "functions", "output", "contexts", "standins", "calls", "main")
"""The modules of :mod:`graflow.handlers.inside`, each after those that it imports."""

BOOT: Final = (
    "import os,struct\n"
    "def r(n):\n"
    " b=b''\n"
    " while len(b)<n:\n"
    "  d=os.read(0,n-len(b))\n"
    "  if not d:os._exit(0)\n"
    "  b+=d\n"
    " return b\n"
    "exec(compile(r(struct.unpack('>I',r(4))[0]),'<graflow>','exec'),{'__name__':'graflow_boot'})"
)
"""What ``python -c`` is given: it reads a program and runs it. The same for every child, so a command line tells nothing."""

_LOADER: Final = """
import sys, types
package = types.ModuleType("graflow.handlers.inside")
sys.modules["graflow.handlers.inside"] = package
for name, source in PARTS:
    module = types.ModuleType("graflow.handlers.inside." + name)
    module.__file__ = "<graflow/handlers/inside/" + name + ".py>"
    sys.modules[module.__name__] = module
    setattr(package, name, module)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
package.main.serve()
"""


@cache
def program() -> bytes:
    """The child's program, with its length in front: the first thing to be written to a child."""
    folder = resources.files("graflow.handlers.inside")
    parts = [(name, (folder / f"{name}.py").read_text("utf-8")) for name in PARTS]
    source = f"PARTS = {parts!r}\n{_LOADER}".encode()
    return struct.pack(">I", len(source)) + source
