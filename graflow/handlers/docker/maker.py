"""How a box is made: a container, created, attached to, started, and heard of."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from graflow.errors import HandlerError, ImageNotFoundError
from graflow.handlers.conversation import Conversation, Ended
from graflow.handlers.docker.box import Box
from graflow.handlers.docker.deaths import Kills, cause_of_death
from graflow.handlers.docker.labels import Purpose, new_token, warm_name
from graflow.handlers.docker.recipe import recipe
from graflow.handlers.docker.settings import CODE
from graflow.handlers.shipping import BOOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graflow.handlers.docker.bin import ContainerBin
    from graflow.handlers.docker.engine import Engine
    from graflow.handlers.docker.labels import Owner
    from graflow.handlers.docker.link import DockerLink
    from graflow.handlers.docker.settings import DockerSettings
    from graflow.handlers.frames import Ready

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

BOOT_PATIENCE: Final = 60.0
"""seconds that Python is given to start in a container"""


class BoxMaker:
    """Makes boxes, each from a container of its own.

    Args:
        engine: where.
        settings: of the handler.
        owner: whose they are.
        bin: where one goes that came to nothing.
    """

    def __init__(self, engine: Engine, settings: DockerSettings, owner: Owner, bin: ContainerBin) -> None:
        self._engine = engine
        self._settings = settings
        self._owner = owner
        self._bin = bin
        self._kills = Kills(local=engine.is_local)
        self._preset: frozenset[str] | None = None

    async def make(self, mounts: Mapping[str, str], purpose: Purpose | None = None) -> Box:
        """A box that is ready. With a purpose it tells by its labels and its name what it is for.

        Raises:
            GraflowError: it cannot be had, for the reason told.
        """
        token = new_token()
        name = warm_name(token) if purpose is None else purpose.name(token)
        labels = self._owner.labels(token) | (purpose.labels() if purpose is not None else {})
        config = recipe(self._settings, BOOT, mounts, labels, preset=await self._preset_variables())
        container, link = name, None  # by its name it can be removed although the engine has not told the id yet
        kills = await self._kills.look()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            container = await self._create(name, config)
            created = clock()
            link = await self._engine.attach(container)
            await self._engine.start(container)
            started = clock()
            limit = self._settings.output_limit
            conversation = Conversation(link, where=f"in the image {self._settings.image}", output_limit=limit, trusted=False)
            ready = await self._begin(conversation, container, link, kills)
        except BaseException:
            if link is not None:
                await link.close()
            self._bin.discard(container)
            raise
        spent = {"create_s": created - began, "start_s": started - created, "ready_s": clock() - started}
        logger.debug("container %s is ready", name, extra={"container": container, "image": self._settings.image, **spent})
        shared = self._settings.isolation == "worker"  # for many tasks, so that none of them gives it its name
        named = purpose is not None or shared
        return Box(self._engine, self._settings, container, token, link, conversation, ready, mounts, named=named, kills=self._kills)

    async def _preset_variables(self) -> frozenset[str]:
        """What the image sets by itself: asked for once, as the same image is always made from."""
        if self._preset is None:
            self._preset = await self._engine.preset(self._settings.image)
        return self._preset

    async def _create(self, name: str, config: Mapping[str, Any]) -> str:
        try:
            return await self._engine.create(name, config)
        except ImageNotFoundError:
            self._preset = None  # what is pulled in its place may be another one of that name
            raise

    async def _begin(self, conversation: Conversation, container: str, link: DockerLink, kills: int) -> Ready:
        try:
            async with asyncio.timeout(BOOT_PATIENCE):
                return await conversation.begin(path=[CODE], keep_path=True, marks=self._settings.isolation == "worker")
        except Ended:
            raise await cause_of_death(  # noqa: B904 - it has one of its own
                self._engine, self._settings, container, link.last_words, kills=self._kills, before=kills
            )
        except TimeoutError:
            image = self._settings.image
            text = f"Python in {image} was not ready after {BOOT_PATIENCE:g} s; is the machine overloaded, or cpus= too small?"
            raise HandlerError(text) from None
