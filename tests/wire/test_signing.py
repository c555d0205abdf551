"""Envelopes: what is signed is accepted for what it was signed for, and everything else is refused with its reason, unopened."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graflow import RetryPolicy, TaskContext, parallel, task
from graflow.core.policy import GroupState
from graflow.errors import ConfigurationError, FunctionNotFoundError, PythonVersionError, SerializationError, UntrustedPayloadError
from graflow.wire.finding import FunctionRegistry
from graflow.wire.functions import register, registry, resolve
from graflow.wire.keys import VARIABLE, Claims, Signer, check, signer_of
from graflow.wire.plans import decode_plan, encode_plan, plan_key
from graflow.wire.signing import RunSigner
from graflow.wire.standins import SentFunction, SentPolicy, admit
from graflow.wire.tasks import decode_task, encode_task
from tests.wire import functions_to_find as found
from tests.wire.plans_to_send import plan_of

SECRET, ANOTHER = "correct-horse-battery-staple-and-more", "another-horse-another-battery-and-more"
SIGNER = Signer.of(f"k1:{SECRET}")
CLAIMS = Claims("function", "run-1", ("fetch", "clean"), "shop:<lambda>")
PICKLE = pickle.dumps({"n": 1})
ENVELOPE = SIGNER.seal(CLAIMS, PICKLE)


def reason_of(envelope: bytes, signer: Signer = SIGNER) -> str:
    with pytest.raises(UntrustedPayloadError) as caught:
        signer.open(envelope, "it")
    return caught.value.reason


# ---- keys ----------------------------------------------------------------------------------------------------------


def test_one_secret_is_a_key_that_is_called_by_its_hash() -> None:
    signer = Signer.of(SECRET)
    assert signer.names == (Signer.of(f"  {SECRET} ").names[0],)
    assert len(signer.names[0]) == 8
    assert signer.open(signer.seal(CLAIMS, PICKLE), "it").pickle == PICKLE


def test_of_several_keys_the_first_signs_and_all_verify() -> None:
    both = Signer.of(f"k2:{ANOTHER}, k1:{SECRET}")
    assert both.names == ("k2", "k1")
    assert both.open(ENVELOPE, "it").claims == CLAIMS
    assert Signer.of(f"k2:{ANOTHER}").open(both.seal(CLAIMS, PICKLE), "it").claims == CLAIMS
    assert reason_of(both.seal(CLAIMS, PICKLE)) == "unknown_key"


@pytest.mark.parametrize("text", ["", "short", "k1:short", f"k1:{SECRET},", f"k1:{SECRET},k2:", "é" * 15])
def test_a_key_that_is_too_short_is_refused_with_how_to_make_one(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"needs 32 or more; make one with: python -c .*token_urlsafe\(32\)") as caught:
        Signer.of(text)
    assert caught.value.setting == VARIABLE
    assert "short" not in str(caught.value)


def test_two_keys_of_one_name_are_refused_and_no_message_or_repr_shows_a_secret() -> None:
    with pytest.raises(ConfigurationError, match="two keys are called 'k1'") as caught:
        Signer.of(f"k1:{SECRET},k1:{ANOTHER}")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(SIGNER)
    assert "k1" in repr(SIGNER)


def test_the_key_is_that_given_in_code_else_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert signer_of() is None
    monkeypatch.setenv(VARIABLE, " ")
    assert signer_of() is None
    monkeypatch.setenv(VARIABLE, f"env:{SECRET}")
    assert getattr(signer_of(), "names", None) == ("env",)
    assert getattr(signer_of(f"code:{SECRET}"), "names", None) == ("code",)
    with pytest.raises(ConfigurationError, match="secret_key=: give a text, not a bytes"):
        signer_of(b"bytes")  # type: ignore[arg-type]


# ---- envelopes -----------------------------------------------------------------------------------------------------


def test_every_single_bit_counts() -> None:
    for place in range(len(ENVELOPE)):
        for bit in range(8):
            altered = bytearray(ENVELOPE)
            altered[place] ^= 1 << bit
            assert reason_of(bytes(altered)) in ("altered", "unknown_key", "unsigned")


@given(st.binary(max_size=200))
def test_no_bytes_lead_to_anything_but_a_refusal(data: bytes) -> None:
    with pytest.raises(UntrustedPayloadError):
        SIGNER.open(data, "it")


@given(st.integers(0, len(ENVELOPE) - 1))
def test_an_envelope_that_was_cut_off_or_has_something_behind_it_is_refused(end: int) -> None:
    assert reason_of(ENVELOPE[:end]) in ("altered", "unsigned")
    assert reason_of(ENVELOPE + ENVELOPE[:end] + b"\0") == "altered"


def test_a_plain_pickle_and_an_envelope_without_a_signature_are_unsigned() -> None:
    assert reason_of(PICKLE) == "unsigned"
    version, key, claims, pickled, _ = msgspec.msgpack.decode(ENVELOPE)
    assert reason_of(msgspec.msgpack.encode([version, key, claims, pickled, b""])) == "unsigned"


@pytest.mark.parametrize("version", [-1, 0, 2, 2**63])
def test_an_envelope_that_was_altered_to_another_version_is_refused_like_any_other_that_was_altered(version: int) -> None:
    """One from a newer version waits for a worker that knows it: whoever can write to the server must not be able to have that done."""
    _, key, claims, pickled, mac = msgspec.msgpack.decode(ENVELOPE)
    assert reason_of(msgspec.msgpack.encode([version, key, claims, pickled, mac])) == "altered"
    assert reason_of(msgspec.msgpack.encode([version, "other", claims, pickled, mac])) == "unknown_key"


def test_an_envelope_of_a_newer_version_that_was_signed_with_our_key_says_that_graflow_is_to_be_upgraded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("graflow.wire.keys.VERSION", 2)
        newer = SIGNER.seal(CLAIMS, PICKLE)
        assert SIGNER.open(newer, "it").claims == CLAIMS
    with pytest.raises(SerializationError, match=r"it came in an envelope of version 2, .* knows version 1: upgrade graflow here"):
        SIGNER.open(newer, "it")


def test_moving_bytes_between_the_parts_does_not_keep_the_signature() -> None:
    version, key, claims, pickled, mac = msgspec.msgpack.decode(ENVELOPE)
    for moved in ([version, key, claims + pickled[:1], pickled[1:], mac], [version, key, claims[:-1], claims[-1:] + pickled, mac]):
        assert reason_of(msgspec.msgpack.encode(moved)) == "altered"


def test_another_secret_of_the_same_name_is_no_key_to_it() -> None:
    assert reason_of(ENVELOPE, Signer.of(f"k1:{ANOTHER}")) == "altered"


@pytest.mark.parametrize(
    ("used", "reason"),
    [
        ({"run_id": "run-2"}, "replayed"),
        ({"owner": "other"}, "swapped"),
        ({"name": "shop:<other>"}, "swapped"),
        ({"kind": "policy"}, "swapped"),
        ({"kind": "value", "owner": None}, "swapped"),
    ],
)
def test_what_was_signed_for_something_else_is_refused(used: dict[str, Any], reason: str) -> None:
    asked = {"kind": "function", "run_id": "run-1", "owner": "clean", "name": "shop:<lambda>"}
    check(CLAIMS, "it", **asked)  # type: ignore[arg-type]
    with pytest.raises(UntrustedPayloadError) as caught:
        check(CLAIMS, "it", **{**asked, **used})  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_bytecode_of_another_python_is_refused() -> None:
    with pytest.raises(PythonVersionError, match=r"pickled by Python 2\.7, and this is") as caught:
        check(Claims("function", "r", ("t",), "n", "2.7"), "it", kind="function", run_id="r", owner="t", name="n")
    assert caught.value.there == "2.7"


# ---- code in plans and tasks ---------------------------------------------------------------------------------------


def sent(graph: Any, run_id: str = "run-1", signer: Signer | None = SIGNER) -> Any:
    return decode_plan(encode_plan(plan_of(graph), signing=RunSigner(SIGNER, run_id)), local_code=None, signer=signer)


def test_signed_code_is_not_opened_before_it_was_admitted_for_its_run_and_task(unpickled: list[str]) -> None:
    there = sent(task(id="one")(lambda: 1))
    one = there.tasks[0]
    assert isinstance(one.spec, SentFunction)
    with pytest.raises(UntrustedPayloadError) as caught:
        _ = one.spec.function
    assert caught.value.reason == "unverified"
    for run_id, name, reason in (("run-2", "one", "replayed"), ("run-1", "two", "swapped")):
        with pytest.raises(UntrustedPayloadError) as caught:
            one.spec.admit(run_id, name)
        assert caught.value.reason == reason
    assert unpickled == []
    admit(one, "run-1")
    assert unpickled == []
    assert one.spec.function() == 1
    assert unpickled != []


def test_what_was_opened_for_its_run_is_still_refused_to_another() -> None:
    one = sent(task(id="one")(lambda: 1)).tasks[0]
    admit(one, "run-1")
    assert one.spec.function() == 1
    with pytest.raises(UntrustedPayloadError) as caught:
        admit(one, "run-2")
    assert caught.value.reason == "replayed"


def test_without_a_key_there_is_nothing_to_admit_it_by() -> None:
    one = sent(task(id="one")(lambda: 1), signer=None).tasks[0]
    with pytest.raises(UntrustedPayloadError, match=f"set {VARIABLE} here") as caught:
        admit(one, "run-1")
    assert caught.value.reason == "no_key"


def test_one_function_of_many_tasks_is_pickled_once_and_signed_once_for_all_of_them() -> None:
    times: list[int] = []

    class Counted:
        def __call__(self) -> None: ...
        def __reduce__(self) -> Any:
            times.append(1)
            return (found.Tools, ())

    one = task(id="one")(Counted())
    clones = [one.clone(f"c{number}") for number in range(10_000)]
    signing = RunSigner(SIGNER, "run-1")
    data = encode_plan(plan_of(parallel(*clones)), signing=signing)
    assert encode_plan(plan_of(parallel(*clones)), signing=signing) is not None
    assert times == [1]
    envelopes = msgspec.msgpack.decode(data)[1]["tables"][3]
    assert len(envelopes) == 1
    assert len(SIGNER.open(envelopes[0], "it").claims.owners) == 10_000


def test_tasks_that_share_options_or_a_policy_are_all_among_those_who_may_use_the_code() -> None:
    class Declined(Exception): ...

    retry = RetryPolicy(2, retry_on=Declined)
    shared = task(id="a", retry=retry)(lambda: 1)

    def enough(state: GroupState) -> bool:
        return True

    members = [shared, shared.clone("b"), task(id="c", retry=retry)(found.plain).bind(n=1)]
    groups = [parallel(*members[:2], name="g", policy=enough), parallel(members[2], task(id="d")(lambda: 4), name="h", policy=enough)]
    there = sent(parallel(*groups, name="all"))
    for each in there.tasks:
        if each is not None:
            admit(each, "run-1")
            if each.options.retry is not None:
                assert each.options.retry.retries(Declined())
                assert not each.options.retry.retries(ValueError())
    for node, group in enumerate(there.groups):
        if group is not None and isinstance(group.policy.function, SentPolicy):
            group.policy.function.admit("run-1", there.ids[node])
            assert group.policy.function(None) is True


def test_a_plan_with_something_signed_is_the_plan_of_one_run_and_every_other_is_shared() -> None:
    signed, plain = plan_of(task(id="one")(lambda: 1)), plan_of(task(found.plain).bind(n=1))

    def key(plan: Any, run_id: str) -> str:
        return plan_key(encode_plan(plan, signing=RunSigner(SIGNER, run_id)))

    assert key(signed, "run-1") == key(signed, "run-1") != key(signed, "run-2")
    assert key(plain, "run-1") == key(plain, "run-2") == plan_key(encode_plan(plain))


def test_signed_code_that_is_sent_on_is_signed_anew() -> None:
    one = decode_task(encode_task(task(id="one")(lambda: 7), signing=RunSigner(SIGNER, "run-1")), signer=SIGNER)
    admit(one, "run-1")
    again = decode_task(encode_task(one.clone("two"), signing=RunSigner(SIGNER, "run-2")), signer=SIGNER)
    admit(again, "run-2")
    assert again.spec.function() == 7


def test_a_function_knows_at_the_other_end_what_its_annotations_name() -> None:
    async def local(ctx: TaskContext, order: found.Tools) -> None: ...

    there = decode_task(encode_task(task(id="one")(local), signing=RunSigner(SIGNER, "run-1")), signer=SIGNER)
    admit(there, "run-1")
    assert there.signature.injected["ctx"].role == "context"
    assert {each.name: each.annotation for each in there.signature.parameters}["order"] is found.Tools


def test_tasks_that_a_function_refers_to_come_along_even_the_one_that_is_made_of_it() -> None:
    @task
    async def last() -> int:
        return 3

    @task(retry=2)
    async def agent(ctx: TaskContext, n: int = 5) -> Any:
        return (agent, last, ctx, n)

    there = decode_task(encode_task(agent, signing=RunSigner(SIGNER, "run-1")), signer=SIGNER)
    admit(there, "run-1")
    cells = dict(zip(there.spec.function.__code__.co_freevars, there.spec.function.__closure__, strict=True))
    inner, other = cells["agent"].cell_contents, cells["last"].cell_contents
    assert (inner.id, inner.options, inner.spec.function) == ("agent", agent.options, there.spec.function)
    assert sorted(inner.signature.names) == ["ctx", "n"]
    assert other.id == "last"


# ---- names ---------------------------------------------------------------------------------------------------------


def test_a_registered_function_travels_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_functions", {})
    monkeypatch.setattr(registry, "_names", {})

    @register("pricing.total")
    @task
    def total(n: int) -> int:
        return n + 1

    there = decode_task(encode_task(total), local_code=None)
    assert isinstance(there.spec, SentFunction)
    assert there.spec.reference == "<named>:pricing.total"
    assert there.spec.function is total.function is resolve("<named>:pricing.total")


def test_a_name_that_nobody_registered_here_says_what_to_do() -> None:
    with pytest.raises(FunctionNotFoundError, match=r"no function is registered here as 'x'; import the module .* --app MODULE") as caught:
        FunctionRegistry().get("x")
    assert caught.value.reference == "<named>:x"


def test_a_name_is_that_of_one_function() -> None:
    names = FunctionRegistry()
    names.register("x", found.plain)
    names.register("x", found.plain)
    with pytest.raises(ConfigurationError, match=r"that is the name of 'tests\.wire\.functions_to_find:plain' already"):
        names.register("x", found.coroutine)
    with pytest.raises(ConfigurationError, match="give a name"):
        names.register("", found.plain)
    assert names.reference_of(found.plain) == "<named>:x"
    assert names.reference_of(functools.partial(found.plain)) is None
