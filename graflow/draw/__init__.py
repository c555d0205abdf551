"""Pictures of graphs, as text: for terminals, for Mermaid (which forges and wikis show) and for Graphviz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from graflow.draw.ascii import draw_ascii
from graflow.draw.dot import draw_dot
from graflow.draw.mermaid import draw_mermaid
from graflow.draw.picture import picture_of
from graflow.errors import ConfigurationError

if TYPE_CHECKING:
    from graflow.core.graph import TaskGraph
    from graflow.core.node import Node
    from graflow.core.workflow import Workflow

__all__ = ["FORMATS", "Format", "draw", "picture_of"]

Format = Literal["ascii", "mermaid", "dot"]
FORMATS: Final = cast("tuple[Format, ...]", get_args(Format))

NARROWEST: Final = 20
"""characters; a terminal drawing cannot be narrower"""


def draw(
    graph: TaskGraph | Workflow[Any] | Node[Any],
    format: Format = "ascii",
    *,
    start: str | None = None,
    output: str | None = None,
    width: int = 100,
    plain: bool = False,
) -> str:
    """A graph as text that shows it.

    Groups are drawn around their members, a mapped group as ``task[*]``. Edges that close a loop, edges that are followed on failure or
    always, the nodes that a run begins with and those whose results are its output are marked.

    Args:
        graph: a workflow, a ``TaskGraph``, a task, a chain or a group. It need not be one that can run.
        format: ``"ascii"`` for terminals, ``"mermaid"`` (a flowchart) or ``"dot"`` (Graphviz).
        start: the id of the node that a run begins with; by default the workflow's own, or all that nothing leads to.
        output: the id of the node whose result is the output; by default the workflow's own, or the last ones.
        width: characters that a line of ``"ascii"`` may have, 20 or more. What does not fit is drawn as a list.
        plain: use nothing but ASCII characters for the lines of ``"ascii"``.

    Raises:
        ConfigurationError: another format, or a width below 20.
        UnknownTaskError: ``start`` or ``output`` is not in the graph.

    Example::

        print(draw(fetch >> clean >> report))
    """
    if format not in FORMATS:
        raise ConfigurationError(f"format={format!r}: use one of {', '.join(map(repr, FORMATS))}", setting="format")
    if width < NARROWEST:
        raise ConfigurationError(f"width={width}: a drawing needs {NARROWEST} characters or more", setting="width")
    picture = picture_of(graph, start=start, output=output)
    if format == "mermaid":
        return draw_mermaid(picture)
    if format == "dot":
        return draw_dot(picture)
    return draw_ascii(picture, width=width, plain=plain)
