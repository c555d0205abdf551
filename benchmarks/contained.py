"""What runs in the containers: in a module of its own, since an image has nothing but Python to import it with."""

from __future__ import annotations

from graflow import task


@task(handler="docker")
def increase(n: int) -> int:
    """Next to nothing, so that what is measured is the way there and back."""
    return n + 1
