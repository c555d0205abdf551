"""From a URL to a server that will do, or to an error that says why not."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from redis import exceptions as redis

from graflow import TaskWorker, WorkflowEngine
from graflow.backends.redis import checks
from graflow.backends.redis.backend import RedisBackend
from graflow.backends.redis.client import RedisClient, RedisSettings
from graflow.backends.redis.scripts import Script
from graflow.errors import BackendUnavailableError, BackendUnsuitableError, ConfigurationError
from tests.redis import jobs
from tests.redis.fake import FakeServer, bulk
from tests.redis.proxy import Command, FaultProxy
from tests.redis.server import RedisServer, free_port, servers

SOON = 5.0
SECRET = "p@ss/w:rd%#ü"
PROBE = Script("probe", text="return ARGV[1]")


async def works(url: str) -> RedisClient:
    """Connect, use every kind of connection, and close."""
    client = RedisClient(url)
    await client.open()
    assert await client.call(PROBE, ["x"]) == b"x"
    assert await client.commands.set("{graflow:0}:probe", "y", ex=60)
    reader = await client.reader(block=0.1)
    assert await reader.xread({"{graflow:0}:none": "$"}, block=10) == []
    await client.close()
    return client


async def tell(server: RedisServer, *words: str) -> None:
    """One command over a connection that has nothing to do with the client."""
    await asyncio.to_thread(server.command, *words)


# ---- URLs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "where", "db", "credentials"),
    [
        ("redis://", "localhost:6379", 0, ()),
        ("redis://cache.local", "cache.local:6379", 0, ()),
        ("redis://cache.local:7000/3", "cache.local:7000", 3, ()),
        ("redis://cache.local?db=4", "cache.local:6379", 4, ()),
        ("redis://[::1]:7000", "[::1]:7000", 0, ()),
        ("redis://:word@h", "h:6379", 0, ("word",)),
        ("redis://bob:word@h", "h:6379", 0, ("bob", "word")),
        ("redis://bob@h", "h:6379", 0, ("bob", "")),
        (f"rediss://bob:{quote(SECRET, safe='')}@h:1", "h:1", 0, ("bob", SECRET)),
        ("unix:///run/redis.sock", "/run/redis.sock", 0, ()),
        ("unix://bob@/run/redis.sock?db=2&password=word", "/run/redis.sock", 2, ("bob", "word")),
    ],
)
def test_a_url_says_where_and_who(url: str, where: str, db: int, credentials: tuple[str, ...]) -> None:
    settings = RedisSettings.parse(url)
    assert (settings.where, settings.db, settings.credentials) == (where, db, credentials)


def test_timeouts_and_the_pool_can_be_set_and_have_bounds_otherwise() -> None:
    settings = RedisSettings.parse("redis://h")
    assert (settings.socket_timeout, settings.connect_timeout, settings.pool_size) == (5.0, 3.0, 8)
    settings = RedisSettings.parse("redis://h?socket_timeout=1.5&socket_connect_timeout=2&max_connections=3&timeout=4")
    assert (settings.socket_timeout, settings.connect_timeout, settings.pool_size, settings.pool_wait) == (1.5, 2.0, 3, 4.0)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://h", "cannot be read"),
        ("h:6379", "cannot be read"),
        ("redis://h:port", "cannot be read"),
        ("redis://h:99999", "cannot be read"),
        ("redis://h/zero", "number of a database"),
        ("redis://h?db=x", "cannot be read"),
        ("redis://h?socket_timeout=0", "must be positive"),
        ("redis://h?max_connections=-1", "must be positive"),
        ("redis://h?colour=red", "cannot be set: colour"),
        ("redis://h?protocol=3", "cannot be set: protocol"),
        ("redis://h?decode_responses=1", "cannot be set: decode_responses"),
        ("redis://h?retry_on_timeout=1", "cannot be set: retry_on_timeout"),
        ("unix://", "no socket file"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_connected(url: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        RedisSettings.parse(url)
    assert caught.value.setting == "url"


@pytest.mark.parametrize(
    "url", ["redis://bob:hush@h:port", "redis://bob:hush@h?db=x", "redis://:hush@h/zero", "http://:hush@h", "redis://bob:hush@h"]
)
def test_the_password_is_in_no_message_and_no_repr(url: str) -> None:
    try:
        shown = repr(RedisSettings.parse(url)) + RedisClient(url).where + repr(RedisClient(url))
    except ConfigurationError as error:
        shown = f"{error} {error.__cause__}"
    assert "hush" not in shown


# ---- who one is ---------------------------------------------------------------------------------------------------


@pytest.fixture
def locked(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A server with a password, and with a user who may do only what is ours."""
    rules = ["on", f">{SECRET}", "resetkeys", "~{graflow:*", "resetchannels", "&{graflow:*", "nocommands"]
    rules += ["+ping", "+evalsha", "+eval", "+set", "+xread", "+select"]
    redis_server.command("ACL", "SETUSER", "worker", *rules)
    redis_server.command("ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all")
    redis_server.command("CONFIG", "SET", "requirepass", SECRET)
    yield redis_server
    redis_server.restart()


async def test_a_password_is_enough_or_wrong_or_missing(locked: RedisServer) -> None:
    secret = quote(SECRET, safe="")
    await works(f"redis://:{secret}@127.0.0.1:{locked.port}")
    await works(f"redis://default:{secret}@127.0.0.1:{locked.port}/2")
    for url in (f"redis://:wrong@127.0.0.1:{locked.port}", locked.url):
        client = RedisClient(url)
        started = time.monotonic()
        with pytest.raises(BackendUnsuitableError, match=r"WRONGPASS|NOAUTH"):
            await client.open()
        assert time.monotonic() - started < 1.0, "there is no point in trying again"
        await client.close()


async def test_a_password_that_nobody_asked_for_is_an_error(redis_server: RedisServer) -> None:
    client = RedisClient(f"redis://:word@127.0.0.1:{redis_server.port}")
    with pytest.raises(BackendUnsuitableError, match="AUTH"):
        await client.open()
    await client.close()


async def test_a_user_who_may_see_neither_info_nor_config_can_work(locked: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client = await works(f"redis://worker:{quote(SECRET, safe='')}@127.0.0.1:{locked.port}")
    assert client.server_version >= (6, 2)
    assert client.run_id is None
    told = [record.getMessage() for record in caplog.records if record.name == "graflow.redis"]
    assert any("noeviction" in text and "neither INFO nor CONFIG" in text for text in told)
    assert any("on disk" in text for text in told)


async def test_the_health_of_a_server_that_tells_nothing(locked: RedisServer) -> None:
    client = RedisClient(f"redis://worker:{quote(SECRET, safe='')}@127.0.0.1:{locked.port}")
    assert await client.health_check() == {
        "status": "healthy",
        "connected_clients": None,
        "used_memory": None,
        "uptime_seconds": None,
    }
    await client.close()


async def test_what_the_user_may_not_do_is_a_loud_error(locked: RedisServer) -> None:
    client = RedisClient(f"redis://worker:{quote(SECRET, safe='')}@127.0.0.1:{locked.port}", namespace="foreign")
    with pytest.raises(BackendUnsuitableError, match="NOPERM"):
        await client.call(PROBE, ["x"])
    await client.close()


# ---- how one gets there -------------------------------------------------------------------------------------------


async def test_a_socket_file_leads_there_too(redis_server: RedisServer) -> None:
    await works(f"unix://{redis_server.socket}?db=1")


async def test_a_name_that_means_two_addresses_is_tried_at_both(redis_server: RedisServer) -> None:
    await works(f"redis://localhost:{redis_server.port}")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate by it, and one that has expired."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make certificates with")
    place = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, cwd=place, capture_output=True)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
    (place / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, days in (("good", "30"), ("old", "-1")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
        signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names", "-days", days]
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)
    return place


def tls_server(program: str, certificates: Path, name: str) -> RedisServer:
    settings = {"tls-port": str(free_port()), "tls-auth-clients": "no", "tls-ca-cert-file": str(certificates / "ca.crt")}
    settings |= {"tls-cert-file": str(certificates / f"{name}.crt"), "tls-key-file": str(certificates / f"{name}.key")}
    server = RedisServer(program, settings=settings)
    try:
        server.start()
    except RuntimeError:
        server.remove()
        pytest.skip(f"{program} was built without TLS")
    return server


@pytest.fixture(params=sorted(servers(), reverse=True))
def encrypted(request: pytest.FixtureRequest, certificates: Path) -> Iterator[RedisServer]:
    server = tls_server(servers()[request.param], certificates, "good")
    yield server
    server.remove()


async def test_a_connection_can_be_encrypted(encrypted: RedisServer, certificates: Path) -> None:
    port = encrypted.settings["tls-port"]
    await works(f"rediss://localhost:{port}?ssl_ca_certs={certificates / 'ca.crt'}")
    await works(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates / 'ca.crt'}")
    await works(f"rediss://localhost:{port}?ssl_cert_reqs=none")


async def test_a_certificate_of_somebody_else_is_refused_at_once(encrypted: RedisServer, certificates: Path) -> None:
    client = RedisClient(f"rediss://localhost:{encrypted.settings['tls-port']}?ssl_ca_certs={certificates / 'other.crt'}")
    with pytest.raises(BackendUnsuitableError, match="certificate verify failed"):
        await asyncio.wait_for(client.open(), 1.0)
    with pytest.raises(redis.ConnectionError):
        await client.commands.ping()
    await client.close()


async def test_speaking_in_the_clear_to_an_encrypted_port_is_an_error_with_an_end(encrypted: RedisServer) -> None:
    client = RedisClient(f"redis://localhost:{encrypted.settings['tls-port']}")
    with pytest.raises(BackendUnavailableError):
        await asyncio.wait_for(client.open(patience=0.2), SOON)
    await client.close()


# ---- no answer ----------------------------------------------------------------------------------------------------


async def test_nobody_there_is_an_error_with_host_port_and_cause() -> None:
    port = free_port()
    client = RedisClient(f"redis://127.0.0.1:{port}")
    with pytest.raises(BackendUnavailableError, match=rf"127\.0\.0\.1:{port}") as caught:
        await asyncio.wait_for(client.open(patience=0.3), SOON)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    await client.close()


async def test_a_server_that_accepts_and_is_silent_is_not_waited_for_for_ever(redis_server: RedisServer) -> None:
    async with FaultProxy(redis_server.port) as proxy:
        proxy.black_hole()
        client = RedisClient(proxy.url + "?socket_timeout=0.1&socket_connect_timeout=0.1")
        with pytest.raises(BackendUnavailableError, match="no reply"):
            await asyncio.wait_for(client.open(patience=0.3), SOON)
        await client.close()
        client = RedisClient(f"redis://:word@127.0.0.1:{proxy.port}?socket_timeout=5&socket_connect_timeout=0.1")
        with pytest.raises(BackendUnavailableError, match="let us in"):
            await asyncio.wait_for(client.open(patience=0.3), SOON)
        await client.close()


async def test_a_server_that_is_still_starting_is_waited_for(redis_server: RedisServer) -> None:
    await asyncio.to_thread(redis_server.kill)
    client = RedisClient(redis_server.url)
    opening = asyncio.create_task(client.open())
    await asyncio.to_thread(redis_server.start)
    await asyncio.wait_for(opening, SOON)
    await client.close()


async def test_a_server_that_loads_its_data_is_waited_for() -> None:
    loading = [b"-LOADING Redis is loading the dataset in memory\r\n"] * 2

    def answers(command: Command) -> bytes | None:
        return loading.pop() if command[0] == b"INFO" and loading else None

    async with FakeServer(answers=answers) as server:
        client = RedisClient(server.url)
        await asyncio.wait_for(client.open(), SOON)
        await client.close()
    assert not loading


# ---- a server that will not do ------------------------------------------------------------------------------------


async def test_a_server_that_throws_keys_away_is_refused(redis_server: RedisServer) -> None:
    await tell(redis_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        client = RedisClient(redis_server.url)
        with pytest.raises(BackendUnsuitableError, match=r"allkeys-lru.*noeviction"):
            await client.open()
        await client.close()
    finally:
        await tell(redis_server, "CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_the_policy_is_asked_for_where_only_config_is_allowed(redis_server: RedisServer) -> None:
    await tell(redis_server, "CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
    await tell(redis_server, "ACL", "SETUSER", "curious", "on", "nopass", "~*", "&*", "+@all", "-info")
    try:
        client = RedisClient(f"redis://curious:x@127.0.0.1:{redis_server.port}")
        with pytest.raises(BackendUnsuitableError, match="volatile-ttl"):
            await client.open()
        await client.close()
    finally:
        await tell(redis_server, "ACL", "DELUSER", "curious")
        await tell(redis_server, "CONFIG", "SET", "maxmemory-policy", "noeviction")


@pytest.mark.parametrize(("version", "hello"), [("6.0.16", True), ("5.0.14", False)])
async def test_a_server_that_is_too_old_is_refused(version: str, hello: bool) -> None:
    def answers(command: Command) -> bytes | None:
        if command[0] == b"INFO":
            return bulk(f"redis_version:{version}\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n".encode())
        return None if hello or command[0] != b"HELLO" else b"-ERR unknown command `HELLO`, with args beginning with:\r\n"

    async with FakeServer(answers=answers) as server:
        client = RedisClient(server.url)
        with pytest.raises(BackendUnsuitableError, match=rf"version {version}.*6\.2"):
            await client.open()
        await client.close()


async def test_valkey_counts_as_the_redis_that_it_was_made_from(caplog: pytest.LogCaptureFixture) -> None:
    hello = b"*4\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n8.1.0\r\n"
    told = b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n"
    for info in (bulk(told), b"-NOPERM this user has no permissions to run the 'info' command\r\n"):

        def answers(command: Command, info: bytes = info) -> bytes | None:
            return hello if command[0] == b"HELLO" else info if command[0] == b"INFO" else None

        async with FakeServer(answers=answers) as server:
            client = RedisClient(server.url)
            await client.open()
            assert client.server_version == (7, 2, 4)
            await client.close()


async def test_a_server_that_keeps_nothing_on_disk_is_warned_of(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    client = RedisClient(redis_url)
    await client.open()
    await client.close()
    assert any("keeps nothing on disk" in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


@pytest.mark.parametrize(("setting", "value"), [("appendonly", "yes"), ("save", "3600 1")])
async def test_one_that_keeps_something_is_not(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture, setting: str, value: str
) -> None:
    await tell(redis_server, "CONFIG", "SET", setting, value)
    try:
        client = RedisClient(redis_server.url)
        await client.open()
        await client.close()
    finally:
        await tell(redis_server, "CONFIG", "SET", setting, "no" if setting == "appendonly" else "")
    assert not [record for record in caplog.records if record.name == "graflow.redis"]


@pytest.mark.parametrize(
    ("text", "version"), [("7.0.15", (7, 0, 15)), ("8.0-rc1", (8, 0)), ("255.255.255", (255, 255, 255)), ("", None), ("unstable", None)]
)
def test_versions_are_numbers(text: str, version: tuple[int, ...] | None) -> None:
    assert checks.read_version(text) == version


# ---- scripts as files ---------------------------------------------------------------------------------------------


def test_a_script_is_put_together_from_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shared.lua").write_text("local shared = 1", "utf-8")
    (tmp_path / "own.lua").write_text("return shared", "utf-8")
    monkeypatch.setattr("graflow.backends.redis.scripts.files", lambda _: tmp_path)
    script = Script("own", "shared", "own")
    assert script.text == "local shared = 1\nreturn shared"
    assert script.sha == hashlib.sha1(script.text.encode()).hexdigest()
    assert Script("own").text == "return shared"


def test_a_script_without_its_file_is_an_error_of_the_import() -> None:
    with pytest.raises(FileNotFoundError):
        Script("no such script")


# ---- engines and workers ------------------------------------------------------------------------------------------


async def test_a_worker_meets_the_engines_of_its_namespace(redis_url: str) -> None:
    async with WorkflowEngine(redis_url, namespace="shop") as engine, TaskWorker(redis_url, namespace="shop"):
        assert isinstance(engine.backend, RedisBackend)
        assert engine.backend.client.keys.namespace == "shop"
        assert (await engine.execute(jobs.given.bind(number=7), timeout=10)).output == 7
