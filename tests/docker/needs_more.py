"""A task whose module needs something that no image has."""

from __future__ import annotations

import iniconfig

from graflow import task


@task(handler="docker")
def count() -> int:
    return len(vars(iniconfig))
