"""The table of errors: what is what, and what the client then does."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions as redis

from graflow.backends.redis import faults
from graflow.backends.redis.client import RedisClient
from graflow.backends.redis.faults import CODES, Remedy, as_graflow, classify, code_of
from graflow.backends.redis.scripts import Script
from graflow.errors import BackendUnavailableError, BackendUnsuitableError, GraflowError, QueueFullError
from tests.redis.fake import FakeServer
from tests.redis.server import RedisServer

SCRIPT = Script("probe", text="return 1")

SAID: list[tuple[str, Remedy]] = [
    ("LOADING Redis is loading the dataset in memory", Remedy.RESEND),
    ("TRYAGAIN Multiple keys request during rehashing of slot", Remedy.RESEND),
    ("CLUSTERDOWN The cluster is down", Remedy.RESEND),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Remedy.RESEND),
    ("NOREPLICAS Not enough good replicas to write.", Remedy.RESEND),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", Remedy.RESEND),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Remedy.RESEND),
    ("ERR max number of clients reached", Remedy.RESEND),
    ("READONLY You can't write against a read only replica.", Remedy.RESOLVE),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", Remedy.RESOLVE),
    ("MOVED 3999 127.0.0.1:6381", Remedy.RESOLVE),
    ("ASK 3999 127.0.0.1:6381", Remedy.RESOLVE),
    ("NOSCRIPT No matching script. Please use EVAL.", Remedy.REPAIR),
    ("NOGROUP No such key 'nos' or consumer group 'g' in XREADGROUP with GROUP option", Remedy.REPAIR),
    ("OOM command not allowed when used memory > 'maxmemory'.", Remedy.FULL),
    ("NOAUTH Authentication required.", Remedy.FATAL),
    ("WRONGPASS invalid username-password pair or user is disabled.", Remedy.FATAL),
    ("NOPERM this user has no permissions to run the 'hset' command", Remedy.FATAL),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", Remedy.FATAL),
    ("CROSSSLOT Keys in request don't hash to the same slot", Remedy.FATAL),
    ("ERR unknown command 'NOSUCH'", Remedy.FATAL),
    ("ERR user_script:1: attempt to perform arithmetic on a nil value script: e8f6, on @user_script:1.", Remedy.FATAL),
    ("ERR DB index is out of range", Remedy.FATAL),
    ("DENIED Redis is running in protected mode", Remedy.FATAL),
    ("whatever the future brings", Remedy.FATAL),
]
"""What servers say, word for word."""

INSIDE_SCRIPTS: list[tuple[str, str, Remedy]] = [
    # Redis 6.2 says it in two ways, Redis 7 puts the code in front.
    ("ERR Error running script (call to f_1d2a): @user_script:1: @user_script: 1: -OOM command not allowed", "OOM", Remedy.FULL),
    ("ERR Error running script (call to f_1d2a): @user_script:1: @user_script: 1: -READONLY You can't write", "READONLY", Remedy.RESOLVE),
    ("ERR Error running script (call to f_174b): @user_script:1: WRONGTYPE Operation against a key", "WRONGTYPE", Remedy.FATAL),
    ("ERR Error running script (call to f_8b96): @user_script:12: NOGROUP No such key 'nos'", "NOGROUP", Remedy.REPAIR),
    ("ERR Error running script (call to f_e8f6): @user_script:1: user_script:1: attempt to perform", "ERR", Remedy.FATAL),
    ("NOGROUP No such key 'nos' script: 8b96, on @user_script:1.", "NOGROUP", Remedy.REPAIR),
    ("OOM command not allowed when used memory > 'maxmemory'. script: 1d2a, on @user_script:1.", "OOM", Remedy.FULL),
]

RAISED: list[tuple[Exception, Remedy]] = [
    (redis.ConnectionError("Connection closed by server."), Remedy.RESEND),
    (redis.TimeoutError("Timeout reading from 127.0.0.1:1"), Remedy.RESEND),
    (redis.MaxConnectionsError("Too many connections"), Remedy.RESEND),
    (redis.BusyLoadingError("Redis is loading the dataset in memory"), Remedy.RESEND),
    (redis.ExternalAuthProviderError("problem with LDAP service"), Remedy.RESEND),
    (redis.AuthenticationError("invalid username-password pair"), Remedy.FATAL),
    (redis.AuthorizationError("no"), Remedy.FATAL),
    (redis.InvalidResponse("Protocol error"), Remedy.RESOLVE),
    (redis.DataError("Invalid input of type: 'dict'"), Remedy.FATAL),
    (ConnectionResetError(104, "Connection reset by peer"), Remedy.RESEND),
    (ConnectionRefusedError(111, "Connection refused"), Remedy.RESEND),
    (TimeoutError(), Remedy.RESEND),
    (FileNotFoundError(2, "No such file or directory"), Remedy.RESEND),
    (ssl.SSLCertVerificationError(1, "certificate has expired"), Remedy.FATAL),
]


@pytest.mark.parametrize(("text", "remedy"), SAID)
def test_what_the_server_says_has_a_remedy(text: str, remedy: Remedy) -> None:
    assert classify(redis.ResponseError(text)) is remedy


@pytest.mark.parametrize(("text", "remedy"), SAID)
async def test_it_is_the_same_for_the_errors_of_redis_py(text: str, remedy: Remedy) -> None:
    async with FakeServer(f"-{text}\r\n".encode()) as server:
        client = RedisClient(server.url)
        with pytest.raises(redis.RedisError) as caught:
            await client.commands.get("key")
        await client.close()
        assert len(server.commands) == 1, "redis-py sent it again by itself"
    assert classify(caught.value) is remedy


@pytest.mark.parametrize(("text", "code", "remedy"), INSIDE_SCRIPTS)
def test_an_error_inside_a_script_is_found(text: str, code: str, remedy: Remedy) -> None:
    assert code_of(redis.ResponseError(text)) == code
    assert classify(redis.ResponseError(text)) is remedy


@pytest.mark.parametrize(("error", "remedy"), RAISED)
def test_what_is_raised_on_this_side_has_a_remedy(error: Exception, remedy: Remedy) -> None:
    assert classify(error) is remedy


def test_the_error_behind_a_failed_connection_decides() -> None:
    outer = redis.ConnectionError("Error 1 connecting")
    outer.__cause__ = redis.AuthenticationError("invalid password")
    assert classify(outer) is Remedy.FATAL
    other = redis.ConnectionError("Error 1 connecting")
    other.__context__ = ssl.SSLCertVerificationError(1, "self signed")
    assert classify(other) is Remedy.FATAL


def test_every_code_of_the_table_is_tried() -> None:
    assert CODES.keys() <= {text.split()[0] for text, _ in SAID}


@pytest.mark.parametrize(("text", "remedy"), SAID)
async def test_a_script_is_sent_again_exactly_when_the_table_says_so(text: str, remedy: Remedy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "pause", lambda error, tries: 0.0)
    async with FakeServer(f"-{text}\r\n".encode(), b":7\r\n") as server:
        client = RedisClient(server.url)
        try:
            if remedy in (Remedy.FULL, Remedy.FATAL):
                with pytest.raises(GraflowError):
                    await client.call(SCRIPT, ["x"])
                assert len(server.commands) == 1
            elif code_of(redis.ResponseError(text)) == "NOGROUP":
                with pytest.raises(redis.ResponseError, match="NOGROUP"):
                    await client.call(SCRIPT, ["x"])
            else:
                assert await client.call(SCRIPT, ["x"]) == 7
                first, second = server.commands
                assert second[2:] == first[2:]
                assert second[0] == (b"EVAL" if "NOSCRIPT" in text else b"EVALSHA")
                # The others are mended without a new connection.
                assert server.accepted == (2 if remedy is Remedy.RESOLVE else 1)
        finally:
            await client.close()


async def test_a_missing_group_is_repaired_and_the_script_sent_again() -> None:
    repaired: list[int] = []

    async def repair() -> None:
        repaired.append(1)

    async with FakeServer(b"-NOGROUP No such key\r\n", b":7\r\n") as server:
        client = RedisClient(server.url)
        assert await client.call(SCRIPT, [], repair=repair) == 7
        await client.close()
    assert repaired == [1]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OOM command not allowed", QueueFullError),
        ("WRONGTYPE Operation", BackendUnsuitableError),
        ("WRONGPASS invalid", BackendUnsuitableError),
        ("ERR unknown command", BackendUnsuitableError),
        ("READONLY You can't", BackendUnavailableError),
        ("LOADING Redis is", BackendUnavailableError),
        ("NOGROUP No such key", BackendUnavailableError),
    ],
)
def test_users_see_errors_of_ours(text: str, kind: type[GraflowError]) -> None:
    error = as_graflow(redis.ResponseError(text), "host:1")
    assert type(error) is kind
    assert "host:1" in str(error)
    assert text in str(error)


def test_an_error_without_a_text_still_says_what_it_is() -> None:
    assert "TimeoutError" in str(as_graflow(TimeoutError(), "host:1"))


def test_a_full_queue_says_where_and_how_full() -> None:
    error = as_graflow(redis.ResponseError("OOM command not allowed"), "host:1", queue="default", limit=1000)
    assert isinstance(error, QueueFullError)
    assert (error.queue, error.limit) == ("default", 1000)


def test_pauses_are_random_bounded_and_longer_for_what_takes_longer() -> None:
    lost, slow = redis.ConnectionError("lost"), redis.ResponseError("MISCONF disk")
    first = [faults.pause(lost, 0) for _ in range(500)]
    later = [faults.pause(lost, 50) for _ in range(500)]
    assert 0.0 <= min(first) < 0.01 < 0.04 < max(first) <= 0.05
    assert min(later) < 0.2 < 1.8 < max(later) <= 2.0
    assert max(faults.pause(slow, 0) for _ in range(500)) > 0.4


async def test_real_servers_say_what_the_table_expects(redis_server: RedisServer, redis_client: RedisClient) -> None:
    async def outcome(text: str) -> str:
        try:
            await redis_client.call(Script("probe", text=text), [])
        except redis.ResponseError as error:
            return code_of(error)
        except GraflowError as error:
            return code_of(error.__cause__ or error)
        return "none"

    await redis_client.commands.set("text", "x")
    assert await outcome("return redis.call('HSET', 'text', 'a', 'b')") == "WRONGTYPE"
    assert await outcome("return redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'STREAMS', 'none', '>')") == "NOGROUP"
    assert await outcome("return 1 + nil") == "ERR"
    await redis_client.commands.config_set("maxmemory", "1")
    try:
        assert await outcome("return redis.call('HSET', 'h', 'a', 'b')") == "OOM"
        # The first write is allowed when the memory is full, so the rest is too: what has begun is not torn apart.
        assert await outcome("redis.call('DEL', 'none') return redis.call('HSET', 'h', 'a', 'b')") == "none"
    finally:
        await redis_client.commands.config_set("maxmemory", "0")
