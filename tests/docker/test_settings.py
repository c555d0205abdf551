"""What a Docker handler is told: mistakes are refused when it is made, and the rest is what the engine is asked for."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from graflow.errors import ConfigurationError
from graflow.handlers import DockerHandler
from graflow.handlers.docker import mounts
from graflow.handlers.docker.recipe import recipe
from graflow.wire.functions import Code
from tests.docker import flows


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"image": ""}, "image"),
        ({"image": "Python:3.11"}, "image"),
        ({"image": "python:3.11 slim"}, "image"),
        ({"image": "python:"}, "image"),
        ({"image": None}, "image"),
        ({"environment": {"A": 1}}, "environment"),
        ({"environment": {"": "x"}}, "environment"),
        ({"environment": {"A=B": "x"}}, "environment"),
        ({"environment": ["A=B"]}, "environment"),
        ({"volumes": ["/a:/b"]}, "volumes"),
        ({"volumes": {"/a": "/b"}}, "volumes"),
        ({"volumes": {"/a": {"mode": "ro"}}}, "volumes"),
        ({"volumes": {"/a": {"bind": "b"}}}, "volumes['/a'].bind"),
        ({"volumes": {"/a": {"bind": "/"}}}, "volumes['/a'].bind"),
        ({"volumes": {"/a": {"bind": "/graflow/code"}}}, "volumes['/a'].bind"),
        ({"volumes": {"/a": {"bind": "/b", "mode": "rwx"}}}, "volumes['/a'].mode"),
        ({"volumes": {"/a": {"bind": "/b", "how": "ro"}}}, "volumes"),
        ({"volumes": {"./a": {"bind": "/b"}}}, "volumes"),
        ({"volumes": {"a/b": {"bind": "/b"}}}, "volumes"),
        ({"volumes": {"/a": {"bind": "/x"}, "/b": {"bind": "/x"}}}, "volumes"),
        ({"gpus": 0}, "gpus"),
        ({"gpus": "some"}, "gpus"),
        ({"gpus": []}, "gpus"),
        ({"gpus": True}, "gpus"),
        ({"gpus": [1]}, "gpus"),
        ({"memory": "64 megabytes"}, "memory"),
        ({"memory": "1m"}, "memory"),
        ({"memory": 0}, "memory"),
        ({"memory": None}, "memory"),
        ({"cpus": 0}, "cpus"),
        ({"cpus": "1"}, "cpus"),
        ({"cpus": float("nan")}, "cpus"),
        ({"pids": 0}, "pids"),
        ({"network": ""}, "network"),
        ({"network": None}, "network"),
        ({"user": "a b"}, "user"),
        ({"user": 65534}, "user"),
        ({"read_only": "yes"}, "read_only"),
        ({"tmpfs": ["/tmp"]}, "tmpfs"),
        ({"tmpfs": {"tmp": "rw"}}, "tmpfs"),
        ({"cap_drop": "ALL"}, "cap_drop"),
        ({"cap_add": [1]}, "cap_add"),
        ({"security_opt": "no-new-privileges"}, "security_opt"),
        ({"isolation": "thread"}, "isolation"),
        ({"prewarm": -1}, "prewarm"),
        ({"prewarm": True}, "prewarm"),
        ({"concurrency": 0}, "concurrency"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"code": "copy"}, "code"),
        ({"packages": "tests"}, "packages"),
        ({"packages": ["my-package"]}, "packages"),
        ({"workdir": "app"}, "workdir"),
        ({"workdir": ""}, "workdir"),
        ({"python": ""}, "python"),
        ({"python": "python3 -O"}, "python"),
        ({"pull": "sometimes"}, "pull"),
        ({"output_limit": "much"}, "output_limit"),
        ({"host": "/var/run/docker.sock"}, "host"),
        ({"host": "unix:"}, "host"),
        ({"host": "unix://docker.sock"}, "host"),
        ({"host": "ssh://me@there"}, "host"),
        ({"host": "npipe:////./pipe/docker_engine"}, "host"),
        ({"host": "tcp://there:port"}, "host"),
        ({"host": "tcp://there:99999"}, "host"),
        ({"host": "tcp://over there"}, "host"),
        ({"host": "http://[::1"}, "host"),
        ({"host": "https://:2376"}, "host"),
        ({"labels": {"graflow.host": "x"}}, "labels"),
        ({"labels": {"a": 1}}, "labels"),
        ({"engine_grace": -1}, "engine_grace"),
    ],
)
def test_mistakes_are_refused_in_one_line_that_names_the_setting(settings: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        DockerHandler(**settings)
    assert caught.value.setting == setting
    assert setting in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        "python", "python:3.11-slim", "team/python", "host:5000/team/python:tag_1.x", "localhost/a__b/c-d",
        "python@sha256:" + "0" * 64, "sha256:" + "a" * 64, "Registry.example.org/python",
    ],
)  # fmt: skip
def test_names_of_images_are_taken(image: str) -> None:
    assert DockerHandler(image).settings.image == image


def test_what_is_not_said_is_hardened() -> None:
    host = made()["HostConfig"]
    assert made()["User"] == "65534:65534"
    assert host["NetworkMode"] == "none"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["CapAdd"] == []
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Tmpfs"] == {"/tmp": "rw,noexec,nosuid,size=100m"}
    assert host["Memory"] == host["MemorySwap"] == 512 << 20
    assert host["NanoCpus"] == 10**9
    assert host["PidsLimit"] == 128
    assert host["Init"] is True
    assert "Privileged" not in host
    assert "DeviceRequests" not in host


def made(**settings: Any) -> dict[str, Any]:
    return recipe(DockerHandler(**settings).settings, "program", {"shop": "/src/shop"}, {"graflow.token": "t"})


@pytest.mark.parametrize(("gpus", "asked"), [("all", {"Count": -1}), (2, {"Count": 2}), (["0", "GPU-1"], {"DeviceIDs": ["0", "GPU-1"]})])
def test_gpus_are_asked_for(gpus: Any, asked: dict[str, Any]) -> None:
    assert made(gpus=gpus)["HostConfig"]["DeviceRequests"] == [{"Driver": "", "Capabilities": [["gpu"]], **asked}]


def test_code_directories_and_volumes_are_mounted() -> None:
    volumes = {"/models": {"bind": "/m"}, "cache": {"bind": "/c", "mode": "rw"}}
    assert made(volumes=volumes)["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/src/shop", "Target": "/graflow/code/shop", "ReadOnly": True},
        {"Type": "bind", "Source": "/models", "Target": "/m", "ReadOnly": True},
        {"Type": "volume", "Source": "cache", "Target": "/c", "ReadOnly": False},
    ]


def test_nothing_of_the_task_is_on_the_command_line() -> None:
    config = made(environment={"A": "b"}, labels={"team": "x"}, python="/opt/python")
    assert config["Entrypoint"] == ["/opt/python", "-c", "program"]
    assert config["Cmd"] == []
    assert "A=b" in config["Env"]
    assert config["Labels"] == {"team": "x", "graflow.token": "t"}


def test_the_package_of_a_function_is_what_it_needs() -> None:
    found = mounts.needs_of(Code(f"{flows.__name__}:double"))
    assert found == mounts.Needs({"tests": str(__file__).removesuffix("/docker/test_settings.py")})


def test_a_module_of_one_file_and_what_python_brings_along() -> None:
    import typing_extensions

    assert mounts.needs_of(Code("typing_extensions:Self")).mounts == {"typing_extensions.py": typing_extensions.__file__}
    assert mounts.needs_of(Code("json:dumps")).mounts == {}
    assert mounts.needs_of(Code("builtins:len")).mounts == {}
    assert mounts.needs_of(Code("no_such_module:f")).mounts == {}


def test_functions_of_the_main_program_need_its_file() -> None:
    assert mounts.needs_of(Code("__main__:f", main=flows.__file__)) == mounts.Needs({"flows.py": flows.__file__}, "/graflow/code/flows.py")


def test_a_pickle_needs_what_reads_it() -> None:
    pytest.importorskip("cloudpickle")
    found = mounts.needs_of(Code("__main__:<lambda>", pickled=b"x"))
    assert list(found.mounts) == ["cloudpickle"]
    both = mounts.needs_of(Code(f"{flows.__name__}:<lambda>", pickled=b"x"))
    assert sorted(both.mounts) == ["cloudpickle", "tests"]


def test_packages_that_are_not_here_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no_such_package"):
        mounts.packages(["no_such_package"])


async def test_without_aiodocker_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiodocker", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'graflow\[docker\]'"):
        await DockerHandler().start()


@pytest.mark.parametrize(
    "host", ["unix:///run/docker.sock", "tcp://host:2375", "tcp://[::1]:2376", "http://10.0.0.1:2375", "https://docker.internal"]
)
def test_addresses_of_engines_are_taken(host: str) -> None:
    assert DockerHandler(host=host).settings.host == host


@pytest.mark.parametrize("host", ["ssh://me@there", "npipe:////./pipe/docker_engine", "there:2375"])
async def test_the_engine_that_the_environment_names_is_under_the_same_rule(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(ConfigurationError) as caught:
        await DockerHandler().health()
    assert caught.value.setting == "host"
    assert str(caught.value).startswith(f"DOCKER_HOST={host}: give unix:///path/to/docker.sock, or tcp://")
