"""The Docker engine: each request with a limit of time, each refusal as an error of ours."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final, Self

from graflow.errors import ContainerEngineError, ContainerLostError, GraflowError, ImageNotFoundError
from graflow.handlers.docker.connecting import connect
from graflow.handlers.docker.link import DockerLink
from graflow.handlers.docker.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from typing import TypeVar

    import aiohttp

    from graflow.handlers.docker.interface import Client, Container
    from graflow.handlers.docker.settings import Pull

    T = TypeVar("T")

logger: logging.Logger = logging.getLogger("graflow.handlers.docker")

PATIENCE: Final = 60.0
"""seconds that a request may take: an engine that starts many containers at once is slow, and still there"""
PULL_PATIENCE: Final = 900.0
"""seconds that the pulling of an image may take"""
AGAIN: Final = 0.25
"""seconds until an engine that is away is asked again"""
NOT_THERE: Final = 900
"""the status that aiodocker gives to an engine that cannot be reached"""


class Engine:
    """One engine, for as long as the handler runs.

    Attributes:
        host: where it is.
        away: whether it did not answer when it was last asked.
        leaving: whether nobody wants to wait for it any more.
    """

    def __init__(self, host: str, client: Client, connector: aiohttp.BaseConnector | None, *, patience: float | None = None) -> None:
        self.host = host
        self.away: bool = False
        self.leaving: bool = False
        self._closed = False
        self._client = client
        self._connector = connector
        self._patience = patience or PATIENCE

    @classmethod
    async def connect(cls, host: str | None, *, patience: float | None = None) -> Self:
        """The engine at a URL, which is not asked anything yet.

        Raises:
            ConfigurationError: aiodocker is missing, or cannot make anything of the URL.
            ContainerEngineError: there is no engine.
        """
        return cls(*await connect(host), patience=patience)

    async def close(self) -> None:
        """Close the client and its connections."""
        self.leaving = self._closed = True
        await self._client.close()
        if self._connector is not None:
            await self._connector.close()

    # ---- itself ----

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, as far as its address tells."""
        return self.host.startswith("unix://")

    async def version(self) -> Mapping[str, Any]:
        """What it says about itself.

        Raises:
            ContainerEngineError: it does not answer.
        """
        return await self._ask(self._client.version(), "its version")

    async def back(self, grace: float) -> None:
        """Wait until it answers, at most that many seconds.

        Raises:
            ContainerEngineError: it does not.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + grace
        while True:
            try:
                await self.version()
            except ContainerEngineError:
                if self.leaving or loop.time() >= until:
                    raise
                await asyncio.sleep(min(AGAIN, max(0.0, until - loop.time())))
            else:
                return

    # ---- images ----

    async def has_image(self, image: str) -> bool:
        """Whether the engine has an image."""
        try:
            await self._ask(self._client.images.inspect(image), f"the image {image}", image=image)
        except ImageNotFoundError:
            return False
        return True

    async def preset(self, image: str) -> frozenset[str]:
        """The names of the variables that an image sets.

        Raises:
            ImageNotFoundError: there is no such image.
        """
        about = await self._ask(self._client.images.inspect(image), f"the image {image}", image=image)
        config: Mapping[str, Any] = about.get("Config") or {}
        return frozenset(str(each).partition("=")[0] for each in config.get("Env") or ())

    async def provide(self, image: str, pull: Pull) -> None:
        """See to it that the engine has an image.

        Raises:
            ImageNotFoundError: it has not, and could not or should not get it.
        """
        if pull != "always" and await self.has_image(image):
            return
        if pull == "never":
            text = f"the engine at {self.host} has no image {image!r}, and pull='never' forbids to get it; build or load it there"
            raise ImageNotFoundError(text, image=image)
        logger.info("pulling the image %s", image, extra={"image": image, "engine": self.host})
        try:
            await self._ask(self._client.images.pull(image), f"pulling {image}", image=image, patience=PULL_PATIENCE)
        except (ContainerEngineError, ImageNotFoundError) as error:
            if self.away:
                raise
            there = "the engine has one, which pull='missing' would have used" if await self.has_image(image) else "the engine has none"
            text = f"the image {image!r} could not be pulled: {error}; {there}: check its name and the registry, or build or load it there"
            raise ImageNotFoundError(text, image=image) from error

    # ---- containers ----

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """A new container, which does not run yet; its id."""
        made = await self._ask(self._client.containers.create(dict(config), name=name), f"creating {name}", image=str(config["Image"]))
        return str(made.id)

    async def attach(self, container: str) -> DockerLink:
        """The standard streams of a container: to be had before it is started, lest something is missed."""
        stream = self._at(container).attach(stdin=True, stdout=True, stderr=True)
        link = DockerLink(stream)
        try:
            await self._ask(link.open(), f"attaching to {container}", container=container)
        except GraflowError:
            await link.close()
            raise
        return link

    async def start(self, container: str) -> None:
        """Let it run."""
        await self._ask(self._at(container).start(), f"starting {container}", container=container)

    async def rename(self, container: str, name: str) -> None:
        """Call it something else."""
        await self._ask(self._at(container).rename(name), f"renaming {container}", container=container)

    async def ended(self, container: str, patience: float) -> Mapping[str, Any] | None:
        """The state of a container that has ended, or ends within some seconds; None if it still runs then.

        Raises:
            ContainerLostError: there is no such container.
            ContainerEngineError: the engine does not answer.
        """
        there = self._at(container)
        try:
            async with asyncio.timeout(patience):
                await self._ask(there.wait(), f"waiting for {container}", container=container)
        except TimeoutError:
            return None
        shown = await self._ask(there.show(), f"the state of {container}", container=container)
        state: Mapping[str, Any] = shown["State"]
        return state

    async def remove(self, container: str) -> None:
        """Kill it, if it runs, and remove it with its unnamed volumes. That it is gone already, or is being removed, is fine."""
        there = self._at(container)
        try:
            await self._ask(there.delete(force=True, v=True), f"removing {container}", container=container)
        except ContainerLostError:
            return
        except ContainerEngineError as error:
            if "already in progress" not in str(error):
                raise

    async def labelled(self, *labels: str) -> list[Mapping[str, Any]]:
        """All containers, the ended ones included, that have these labels, each ``name`` or ``name=value``."""
        filters = json.dumps({"label": list(labels)})
        found = await self._ask(self._client.containers.list(all=1, filters=filters), "the list of containers")
        return [{"Id": each["Id"], "Labels": each["Labels"], "Names": each["Names"], "State": each["State"]} for each in found]

    # ---- requests ----

    def _at(self, container: str) -> Container:
        return self._client.containers.container(container)

    async def _ask(
        self, request: Coroutine[Any, Any, T], what: str, *, image: str = "", container: str = "", patience: float | None = None
    ) -> T:
        import aiodocker
        import aiohttp

        if self._closed:  # by a task that has outlived its worker
            request.close()
            raise ContainerEngineError(f"the connection to the Docker engine at {self.host} was closed with its handler", host=self.host)
        limit = asyncio.timeout(patience or self._patience)
        try:
            async with limit:
                answer = await request
        except aiodocker.exceptions.DockerError as error:
            self.away = error.status == NOT_THERE
            if self.away:
                raise self._absent(str(error.message)) from error
            raise refusal(error.status, str(error.message), what, host=self.host, image=image, container=container) from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                if not limit.expired():
                    raise
                text = (
                    f"the Docker engine at {self.host} did not answer within {patience or self._patience:g} s ({what}); is it overloaded?"
                )
                raise ContainerEngineError(text, host=self.host) from error
            self.away = True
            raise self._absent(f"{what}: {error}") from error
        self.away = False
        return answer

    def _absent(self, reason: str) -> ContainerEngineError:
        text = f"no Docker engine answers at {self.host}: {reason}; start it, or say where it is: DockerHandler(host=...), or DOCKER_HOST"
        return ContainerEngineError(text, host=self.host)
