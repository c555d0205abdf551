"""Functions in Docker containers: the engine, a container, the pool of those kept ready, the reaper of those left behind."""

from graflow.handlers.docker.handler import DockerHandler as DockerHandler

__all__ = ["DockerHandler"]
