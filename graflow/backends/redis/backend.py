"""The Redis backend: any number of engines and workers, on any number of machines, over one server."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal

from graflow.backends.limits import check_limits
from graflow.backends.redis.chores import REFUSED_GRACE, UNKNOWN_GRACE, Graces
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.coordinator import RedisCoordinator
from graflow.backends.redis.crew import Crew
from graflow.backends.redis.deadletters import DeadLetters
from graflow.backends.redis.leases import make_heart
from graflow.backends.redis.planstore import PlanStore
from graflow.backends.redis.queue import RedisTaskQueue
from graflow.backends.redis.roster import living
from graflow.backends.redis.waiting import Waiting
from graflow.core.clock import SystemClock, is_number
from graflow.core.staying import StaysHere
from graflow.errors import ConfigurationError
from graflow.wire import codec
from graflow.wire.keys import signer_of
from graflow.wire.local import this_process

if TYPE_CHECKING:
    from graflow.backends.base import Slots
    from graflow.core.clock import Clock
    from graflow.wire.keys import Signer

DAY: Final = 86_400.0


class RedisBackend(StaysHere):
    """Queues, runs and channels on a Redis server.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database where there are such.
        namespace: keeps applications that share a server apart.
        retention: seconds that a run and its results are kept after its end.
        queue_limit: how many attempts may wait at once, None for any number.
        local_code: let functions that only this process has (closures, those of ``__main__``) be submitted. Only a worker in this very process can
            run them.
        unknown_grace: seconds for which an attempt whose function or key a worker does not have is left to other workers.
        refused_grace: the same when every living worker that serves its queue has refused it.
        heart: where the lease of a worker is renewed: in a process of its own, out of reach of what runs here, or on the event loop.
        secret_key: signs and verifies code and values that travel as pickles, see :meth:`graflow.wire.signing.Signer.of`; None for
            ``GRAFLOW_SECRET_KEY``.

    Example:
        >>> backend = RedisBackend("redis://localhost:6379/0", namespace="shop")
        >>> async with WorkflowEngine(backend) as engine:
        ...     await engine.execute(workflow)
    """

    instead = "hand on its URL, and make one where it is used"

    local = False
    seals = True

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "graflow",
        retention: float = DAY,
        queue_limit: int | None = None,
        local_code: bool = False,
        unknown_grace: float = UNKNOWN_GRACE,
        refused_grace: float = REFUSED_GRACE,
        heart: Literal["process", "loop"] = "process",
        secret_key: str | None = None,
    ) -> None:
        check_limits(retention, queue_limit)
        _check(unknown_grace, refused_grace, heart)
        self.clock: Clock = SystemClock()
        self.client: RedisClient = RedisClient(url, namespace=namespace)
        self.waiting: Waiting = Waiting(self.client)
        code = this_process if local_code else None
        self.plans: PlanStore = PlanStore(self.client, code, signer_of(secret_key))
        self.crew: Crew = Crew(self.client, self.waiting, self.plans, code, graces=Graces(unknown_grace, refused_grace))
        self.crew.heart = make_heart(heart, self.client, self.crew.lose)
        self.queue: RedisTaskQueue = RedisTaskQueue(self.client, limit=queue_limit)
        self.coordinator: RedisCoordinator = RedisCoordinator(
            self.client, self.waiting, self.plans, self.crew, retention=retention, queue_limit=queue_limit
        )
        self.dead_letters: DeadLetters = DeadLetters(self.client, self.plans)
        """What could not be run: to be listed, put back in line and dropped."""
        self._users = 0

    def seal(self, value: Any, *, name: str = "value") -> Any:
        """A value as the next task will see it; SerializationError, with ``name``, if it cannot travel."""
        return codec.roundtrip(value, name=name)

    @property
    def signer(self) -> Signer | None:
        """The keys; None without one."""
        return self.plans.signer

    @signer.setter
    def signer(self, signer: Signer | None) -> None:
        self.plans.signer = signer

    @property
    def place(self) -> str:
        """Server, database and namespace, without what they are reached with."""
        client = self.client
        database = f"/{client.settings.db}" if client.settings.db else ""
        return f"{client.where}{database}/{client.keys.namespace}"

    async def living(self) -> frozenset[str]:
        """The workers that hold a lease now, by id."""
        return await living(self.client)

    async def introduce(self, worker_id: str, slots: Slots) -> None:
        """Take a lease for this process, or add a worker to it. The first worker gives it its name."""
        await self.crew.introduce(worker_id, slots)

    async def open(self) -> None:
        """Connect, and see whether the server will do. An engine and its worker may both open it: the last to close it does.

        Raises:
            BackendUnavailableError: no answer.
            BackendUnsuitableError: the server is too old, or would throw data away.
        """
        self._users += 1
        if self._users == 1:
            try:
                await self.client.open()
            except BaseException:
                self._users = 0
                raise

    async def close(self) -> None:
        """Give leases up and connections."""
        self._users -= 1
        if self._users <= 0:
            self._users = 0
            await self.coordinator.close()
            await self.crew.close()
            await self.waiting.close()
            await self.client.close()


def _check(unknown_grace: Any, refused_grace: Any, heart: Any) -> None:
    for setting, grace in (("unknown_grace", unknown_grace), ("refused_grace", refused_grace)):
        if not (is_number(grace) and 0 <= grace < math.inf):
            text = f"{setting}={grace!r}: give the seconds that an unknown function is left to other workers, 0 or more"
            raise ConfigurationError(text, setting=setting)
    if heart not in ("process", "loop"):
        raise ConfigurationError(f'heart={heart!r}: use "process" or "loop"', setting="heart")
