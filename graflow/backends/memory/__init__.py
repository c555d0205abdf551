"""The embedded backend."""

from graflow.backends.memory.backend import MemoryBackend as MemoryBackend

__all__ = ["MemoryBackend"]
