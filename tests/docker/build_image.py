"""Makes an image with Python, without any registry: ``python tests/docker/build_image.py [SOCKET]`` prints its name.

``python:3.11-slim`` is used if the engine has it. Otherwise an image is put together from the packages of the Debian or Ubuntu that this runs
on, by the mirrors that its apt is set up with. That takes some five seconds, and needs neither root nor a client of Docker's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote, urlencode

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.docker.api import Api, Refused, socket_of

OFFICIAL = "python:3.11-slim"
OURS = "graflow-test-python:1"
PACKAGES = ("python3", "coreutils", "dash")
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
LEFT_OUT = ("doc", "man", "locale", "info", "zoneinfo", "perl", "perl5")
SETTINGS = ("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ENV LANG=C.UTF-8", 'CMD ["python3"]')


class NoImage(Exception):
    """There is none to be had."""


def provide(api: Api) -> str:
    """The name of an image with Python."""
    for name in (OFFICIAL, OURS):
        if api.has(f"/images/{name}/json"):
            return name
    with tempfile.TemporaryDirectory() as scratch:
        fetch(Path(scratch))
        python = unpack(Path(scratch))
        make(api, Path(scratch) / "root", python)
    return OURS


def fetch(scratch: Path) -> None:
    """Download the packages and all that they need, as if nothing were installed: down to the C library."""
    if shutil.which("apt-get") is None:
        raise NoImage(f"there is no apt here to make an image from; put {OFFICIAL} on the engine")
    for folder in ("archives/partial", "lists/partial"):
        (scratch / folder).mkdir(parents=True)
    (scratch / "status").touch()
    options = {
        "Debug::NoLocking": "1", "Dir::State::status": scratch / "status", "Dir::Cache::archives": scratch / "archives",
        "APT::Sandbox::User": "root", "APT::Install-Recommends": "0",
    }  # fmt: skip
    apt = ["apt-get", "-qq", "-y", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    own = ["-o", f"Dir::State::lists={scratch / 'lists'}"]
    if run([*apt, "--download-only", "install", *PACKAGES]).returncode == 0:
        return
    # The machine's package lists are missing, as in many a container, or too old for what the mirror still has.
    run([*apt, *own, "update"])
    second = run([*apt, *own, "--download-only", "install", *PACKAGES])
    if second.returncode != 0:
        raise NoImage(
            f"{second.stderr[-2000:]}\napt cannot fetch {', '.join(PACKAGES)}; an image named {OURS} or {OFFICIAL} would do as well"
        )


def unpack(scratch: Path) -> str:
    """Make a file system of the packages; the name of its Python."""
    root = scratch / "root"
    for name in MERGED:  # packages of before and after the merge of / and /usr alike end up where the links point
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in sorted((scratch / "archives").glob("*.deb")):
        data = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
        leave_out = [f"--exclude=./usr/share/{name}" for name in LEFT_OUT] + ["--exclude=./usr/lib/*/perl*"]
        subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner", *leave_out], input=data, check=True)
    python = min(
        each.name for each in (root / "usr/bin").glob("python3.[0-9]*") if each.name.replace(".", "").removeprefix("python").isdecimal()
    )
    for name in ("python", "python3"):
        (root / "usr/bin" / name).unlink(missing_ok=True)
        (root / "usr/bin" / name).symlink_to(python)
    for name in ("tmp", "proc", "sys", "dev", "etc", "root", "run", "var/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return python


def make(api: Api, root: Path, python: str) -> None:
    """Import the file system, compile its library, and give it its name."""
    archive = subprocess.run(
        ["tar", "-C", root, "--owner=0", "--group=0", "--numeric-owner", "-c", "."], check=True, capture_output=True
    ).stdout
    changes = urlencode([("changes", each) for each in SETTINGS])
    # An image that is imported under another name first: nobody shall find the name while its library is not compiled yet.
    raw = f"{OURS}-raw-{os.getpid()}"
    name, _, tag = raw.partition(":")
    api.ask("POST", f"/images/create?fromSrc=-&repo={name}&tag={tag}&{changes}", archive, kind="application/x-tar")
    # As Debian does when it installs: a task's container is read-only, so that every start would compile the library again.
    command = ["python3", "-m", "compileall", "-q", "-j", "0", "-x", "tests?/|lib2to3|distutils|pydoc_data", f"/usr/lib/{python}"]
    container = api.ask("POST", "/containers/create", {"Image": raw, "Cmd": command, "HostConfig": {"NetworkMode": "none"}})["Id"]
    try:
        api.ask("POST", f"/containers/{container}/start")
        api.ask("POST", f"/containers/{container}/wait")
        repo, _, tag = OURS.partition(":")
        api.ask("POST", f"/commit?container={container}&repo={repo}&tag={tag}&{changes}")
    finally:
        api.ask("DELETE", f"/containers/{container}?force=1")
        try:
            api.ask("DELETE", f"/images/{quote(raw)}")
        except Refused as refused:  # the other one is made from it; it only loses this name
            print(refused, file=sys.stderr)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


if __name__ == "__main__":
    print(provide(Api(sys.argv[1] if len(sys.argv) > 1 else socket_of(os.environ.get("DOCKER_HOST")))))
