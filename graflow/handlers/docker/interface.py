"""What is used of aiodocker, with the types that it leaves open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiodocker.stream import Stream


class Container(Protocol):
    """One container."""

    @property
    def id(self) -> str: ...

    def __getitem__(self, key: str) -> Any: ...

    def attach(self, *, stdin: bool, stdout: bool, stderr: bool) -> Stream: ...

    async def start(self) -> None: ...

    async def rename(self, newname: str) -> None: ...

    async def wait(self) -> Mapping[str, Any]: ...

    async def show(self) -> Mapping[str, Any]: ...

    async def delete(self, *, force: bool, v: bool) -> None: ...


class Containers(Protocol):
    """Those of an engine."""

    def container(self, container_id: str) -> Container: ...

    async def create(self, config: dict[str, Any], *, name: str) -> Container: ...

    async def list(self, *, all: int, filters: str) -> Sequence[Container]: ...


class Images(Protocol):
    """Those of an engine."""

    async def inspect(self, name: str) -> Mapping[str, Any]: ...

    async def pull(self, from_image: str) -> object: ...


class Client(Protocol):
    """One engine."""

    @property
    def containers(self) -> Containers: ...

    @property
    def images(self) -> Images: ...

    async def version(self) -> Mapping[str, Any]: ...

    async def close(self) -> None: ...
