"""What every backend is told when it is made, checked."""

from __future__ import annotations

from typing import Any, Final

from graflow.core.clock import is_number
from graflow.errors import ConfigurationError

LONGEST: Final = 100 * 365 * 86_400
"""seconds; a server takes a life span that is much longer for a mistake, when the first run ends"""


def check_limits(retention: Any, queue_limit: Any) -> None:
    """Raise a ConfigurationError for a time that nothing could be kept, or a queue that could hold nothing."""
    if not (is_number(retention) and 1 <= retention <= LONGEST):
        raise ConfigurationError(
            f"retention={retention!r}: give the seconds that a run is kept after its end, from 1 to {LONGEST}", setting="retention"
        )
    if queue_limit is not None and not (isinstance(queue_limit, int) and is_number(queue_limit) and queue_limit >= 1):
        raise ConfigurationError(
            f"queue_limit={queue_limit!r}: give how many attempts may wait at once, 1 or more, or None for any number",
            setting="queue_limit",
        )
