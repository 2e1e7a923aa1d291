"""Signatures of webhook deliveries: whether a delivery comes from Calendly.

`Calendly-Webhook-Signature: t=<unix seconds>,v1=<hex digest>` signs `<t>.<raw body>` by HMAC-SHA256. Needs neither
Prefect nor a web framework.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

from pydantic import SecretStr

HEADER: Final = "Calendly-Webhook-Signature"
TOLERANCE: Final = timedelta(seconds=180)

_TIME = re.compile(rb"[0-9]{1,12}")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_LONGEST_HEADER = 4_096

Key = str | SecretStr


class SignatureError(Exception):
    """A delivery that may not come from Calendly; the text shows neither key nor digest."""

    reason: ClassVar[str] = "signature"
    """One word, for counting."""


class MissingSignatureError(SignatureError):
    """There is no signature: the subscription has no key, or a proxy has removed the header."""

    reason = "missing"


class MalformedSignatureError(SignatureError):
    """The header cannot be read."""

    reason = "malformed"


class StaleSignatureError(SignatureError):
    """It was signed too long ago, or in the future: a replay, or a clock that is wrong."""

    reason = "stale"


class WrongSignatureError(SignatureError):
    """No key fits: body or time were changed, or it was signed with another key."""

    reason = "wrong"


def verify(
    headers: Mapping[str, str],
    body: bytes,
    keys: Iterable[Key],
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> datetime:
    """Make sure that a delivery was signed with one of some keys, a short while ago.

    Args:
        headers: The request's headers; case does not matter.
        body: The request's body as it came, byte for byte.
        keys: Signing keys; several while a key is being replaced.
        now: The time, aware.
        tolerance: How far the signature's time may lie from `now`, in either direction.

    Returns:
        When it was signed, in UTC.

    Raises:
        MissingSignatureError: There is no signature.
        MalformedSignatureError: The header is not as it should be.
        StaleSignatureError: It was signed too long ago, or in the future.
        WrongSignatureError: It was signed with no key of these, or something was changed.
        ValueError: There is no key.

    Example:
        >>> from datetime import UTC, datetime
        >>> from prefect_calendly.webhooks.signature import HEADER
        >>> now = datetime.fromtimestamp(1_700_000_000, UTC)
        >>> body = b'{"event":"invitee.created"}'
        >>> headers = {HEADER: sign(body, "whsec-demo", now)}
        >>> verify(headers, body, ["whsec-demo"], now)
        datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc)
    """
    signature = Signature.read(headers)
    signature.check_time(now, tolerance)
    signature.check_body(body, keys)
    return signature.signed_at


class Signature:
    """A signature as the header gives it: its time can be checked before there is a body."""

    def __init__(self, time: bytes, digests: Iterable[bytes]) -> None:
        self._time = time
        self._digests = tuple(digests)
        self.signed_at = datetime.fromtimestamp(int(time), UTC)

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Signature:
        """Read the signature from headers.

        Args:
            headers: The request's headers; case does not matter.

        Returns:
            The signature, of which nothing is checked yet.

        Raises:
            MissingSignatureError: There is none.
            MalformedSignatureError: It cannot be read, or there are two.
        """
        found = [value for name, value in headers.items() if name.lower() == HEADER.lower()]
        if not found:
            raise MissingSignatureError(f"there is no {HEADER} header")
        if len(found) > 1 or len(found[0]) > _LONGEST_HEADER:
            raise MalformedSignatureError(f"the {HEADER} header must be there once")
        times: list[bytes] = []
        digests: list[bytes] = []
        for element in found[0].encode("utf-8", "replace").split(b","):
            name, _, value = element.strip().partition(b"=")
            if name == b"t":
                times.append(value)
            elif name == b"v1":
                digests.append(value)
            # Others are for schemes to come.
        if len(times) != 1 or not _TIME.fullmatch(times[0]):
            raise MalformedSignatureError(f"the {HEADER} header needs one t=<unix seconds>")
        digests = [digest for digest in digests if _DIGEST.fullmatch(digest)]
        if not digests:
            raise MalformedSignatureError(f"the {HEADER} header needs a v1=<64 hexadecimal digits, lower case>")
        try:
            return cls(times[0], digests)
        except (ValueError, OverflowError, OSError):
            raise MalformedSignatureError(f"the time in the {HEADER} header is none") from None

    def check_time(self, now: datetime, tolerance: timedelta = TOLERANCE) -> None:
        """Make sure that it was signed a short while ago; raise StaleSignatureError otherwise."""
        if abs(now - self.signed_at) > tolerance:
            raise StaleSignatureError(
                f"it was signed more than {tolerance.total_seconds():g} seconds ago, or in the future"
            )

    def check_body(self, body: bytes, keys: Iterable[Key]) -> None:
        """Make sure that it is of this body and by one of these keys; raise WrongSignatureError otherwise."""
        expected = [_digest(body, key, self._time) for key in keys]
        if not expected:
            raise ValueError("keys must hold at least one signing key")
        # Every key and every digest, so that time does not tell which one nearly fits.
        fits = [hmac.compare_digest(digest, one) for digest in self._digests for one in expected]
        if not any(fits):
            raise WrongSignatureError("it was signed with another key, or body or time were changed")


def sign(body: bytes, key: Key, now: datetime) -> str:
    """Sign a body as Calendly does, for tests and for proving that a receiver answers.

    Args:
        body: The request's body.
        key: The signing key.
        now: The time, aware.

    Returns:
        The value of the `Calendly-Webhook-Signature` header.

    Raises:
        ValueError: The key is empty.

    Example:
        >>> from datetime import UTC, datetime
        >>> sign(b'{"event":"invitee.created"}', "whsec-demo", datetime.fromtimestamp(1_700_000_000, UTC))
        't=1700000000,v1=3d932f86d7b54875275996118c55b3d62cd45cbe9cf2930d3140807f92a48928'
    """
    time = b"%d" % now.timestamp()
    return f"t={time.decode()},v1={_digest(body, key, time).decode()}"


def _digest(body: bytes, key: Key, time: bytes) -> bytes:
    text = key.get_secret_value() if isinstance(key, SecretStr) else key
    if not text:
        raise ValueError("a signing key must not be empty")
    digest = hmac.new(text.encode(), time + b".", hashlib.sha256)
    digest.update(body)
    return digest.hexdigest().encode()
