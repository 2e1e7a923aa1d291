"""Signatures: what Calendly signed passes, all else is refused, each for its own reason."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from prefect_calendly.webhooks.signature import (
    HEADER,
    TOLERANCE,
    MalformedSignatureError,
    MissingSignatureError,
    SignatureError,
    StaleSignatureError,
    WrongSignatureError,
    sign,
    verify,
)

# The reference's test vector.
KEY = "whsec-demo"
SIGNED_AT = datetime.fromtimestamp(1_700_000_000, UTC)
BODY = b'{"event":"invitee.created"}'
DIGEST = "3d932f86d7b54875275996118c55b3d62cd45cbe9cf2930d3140807f92a48928"
VALUE = f"t=1700000000,v1={DIGEST}"

keys = st.text(min_size=1, max_size=80).filter(lambda key: not any("\ud800" <= letter <= "\udfff" for letter in key))
times = st.integers(1_400_000_000, 3_800_000_000).map(lambda second: datetime.fromtimestamp(second, UTC))


def check(value: str, body: bytes = BODY, *keys: str | SecretStr, now: datetime = SIGNED_AT) -> datetime:
    return verify({HEADER: value}, body, keys or [KEY], now)


def test_the_vector_of_the_reference_passes() -> None:
    assert check(VALUE) == SIGNED_AT
    assert sign(BODY, KEY, SIGNED_AT) == VALUE


@pytest.mark.parametrize("name", [HEADER, HEADER.lower(), HEADER.upper()])
def test_the_case_of_the_headers_name_does_not_matter(name: str) -> None:
    assert verify({"Content-Type": "application/json", name: VALUE}, BODY, [KEY], SIGNED_AT) == SIGNED_AT


@given(st.binary(max_size=2_000), keys, times)
def test_what_is_signed_passes_as_an_hmac_made_elsewhere_does(body: bytes, key: str, now: datetime) -> None:
    second = str(int(now.timestamp()))
    digest = hmac.digest(key.encode(), second.encode() + b"." + body, hashlib.sha256).hex()
    assert sign(body, key, now) == f"t={second},v1={digest}"
    assert check(sign(body, key, now), body, key, now=now) == now
    assert check(sign(body, SecretStr(key), now), body, SecretStr(key), now=now) == now


@given(st.binary(min_size=1, max_size=500), keys, st.data())
def test_one_changed_bit_of_body_time_or_digest_is_refused(body: bytes, key: str, data: st.DataObject) -> None:
    signed = bytearray(sign(body, key, SIGNED_AT).encode() + b"\n" + body)
    place = data.draw(st.integers(0, len(signed) - 1))
    signed[place] ^= 1 << data.draw(st.integers(0, 7))
    value, _, changed = bytes(signed).partition(b"\n")
    with pytest.raises(SignatureError):
        verify({HEADER: value.decode("latin-1")}, changed, [key], SIGNED_AT)


@given(st.integers(-100_000, 100_000))
def test_three_minutes_either_way_are_tolerated_and_no_more(seconds: int) -> None:
    now = SIGNED_AT + timedelta(seconds=seconds)
    if abs(seconds) <= 180:
        assert check(VALUE, now=now) == SIGNED_AT
    else:
        with pytest.raises(StaleSignatureError, match="180 seconds"):
            check(VALUE, now=now)


def test_another_tolerance_may_be_asked_for() -> None:
    now = SIGNED_AT + TOLERANCE + timedelta(seconds=1)
    assert verify({HEADER: VALUE}, BODY, [KEY], now, timedelta(hours=1)) == SIGNED_AT
    with pytest.raises(StaleSignatureError):
        verify({HEADER: VALUE}, BODY, [KEY], SIGNED_AT + timedelta(seconds=2), timedelta(seconds=1))


@given(st.lists(keys, min_size=1, max_size=5, unique=True), st.data())
def test_any_of_several_keys_will_do(several: list[str], data: st.DataObject) -> None:
    used = data.draw(st.sampled_from(several))
    assert check(sign(BODY, used, SIGNED_AT), BODY, *several) == SIGNED_AT
    others = [key for key in several if key != used]
    # HMAC fills a key up with zeros: such keys are the same.
    if others and not any(key.rstrip("\0") == used.rstrip("\0") for key in others):
        with pytest.raises(WrongSignatureError):
            check(sign(BODY, used, SIGNED_AT), BODY, *others)


@pytest.mark.parametrize(
    "value",
    [
        f"v0=abc,t=1700000000,v1={DIGEST}",
        f"t=1700000000,v1={DIGEST},v2={'0' * 64},nonsense,=",
        f" t=1700000000 , v1={DIGEST} ",
        f"t=1700000000,v1={'0' * 64},v1={DIGEST}",
    ],
)
def test_elements_that_are_not_known_are_ignored_and_one_digest_that_fits_is_enough(value: str) -> None:
    assert check(value) == SIGNED_AT


@pytest.mark.parametrize(
    "value",
    [
        "",
        "t=1700000000",
        f"v1={DIGEST}",
        f"t=,v1={DIGEST}",
        f"t=yesterday,v1={DIGEST}",
        f"t=-1,v1={DIGEST}",
        f"t=1_700_000_000,v1={DIGEST}",
        f"t=١٧٠٠٠٠٠٠٠٠,v1={DIGEST}",
        f"t=999999999999,v1={DIGEST}",
        f"t=1700000000,t=1700000000,v1={DIGEST}",
        f"t=1700000000,v1={DIGEST[:-1]}",
        f"t=1700000000,v1={DIGEST.upper()}",
        f"t=1700000000,v1={DIGEST}," + "x" * 5_000,
    ],
)
def test_a_header_that_cannot_be_read_is_malformed(value: str) -> None:
    with pytest.raises(MalformedSignatureError):
        check(value)


@given(st.text(max_size=200))
def test_whatever_stands_in_the_header_is_a_typed_error(value: str) -> None:
    with pytest.raises(SignatureError):
        check(value)


def test_no_header_and_two_headers_are_errors_of_their_own() -> None:
    with pytest.raises(MissingSignatureError):
        verify({}, BODY, [KEY], SIGNED_AT)
    with pytest.raises(MalformedSignatureError, match="once"):
        verify({HEADER: VALUE, HEADER.lower(): VALUE}, BODY, [KEY], SIGNED_AT)


def test_no_key_and_an_empty_key_are_mistakes_of_ours_and_never_let_anything_pass() -> None:
    with pytest.raises(ValueError, match="at least one"):
        verify({HEADER: VALUE}, BODY, [], SIGNED_AT)
    with pytest.raises(ValueError, match="empty"):
        verify({HEADER: VALUE}, BODY, [""], SIGNED_AT)
    with pytest.raises(ValueError, match="empty"):
        sign(BODY, "", SIGNED_AT)


@pytest.mark.parametrize("value", [VALUE.replace(DIGEST, "0" * 64), "t=1,v1=2", f"t=1600000000,v1={DIGEST}"])
def test_an_error_holds_neither_key_nor_digest_nor_body(value: str) -> None:
    with pytest.raises(SignatureError) as caught:
        check(value)
    assert caught.value.reason in ("wrong", "malformed", "stale")
    for secret in (KEY, DIGEST, "0" * 64, BODY.decode()):
        assert secret not in repr(caught.value)
