"""Settings of the receiver that do not work are refused, each with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_calendly.webhooks.settings import ReceiverSettings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no signing key"),
        ({"signing_keys": [""]}, "must not be empty"),
        ({"signing_keys": ["k"], "insecure": True}, "use one of them"),
        ({"signing_key_block": "My Block"}, "signing_key_block must be the name"),
        ({"insecure": True, "path": "webhooks"}, "path must be"),
        ({"insecure": True, "path": "/metrics"}, "path must be"),
        ({"insecure": True, "path": "/a/{b}"}, "path must be"),
        ({"insecure": True, "name": "North 1"}, "name must be"),
        ({"insecure": True, "payload": "all"}, "payload must be"),
        ({"insecure": True, "remember_days": 1}, "at least 2"),
        ({"insecure": True, "body_seconds": 0}, "body_seconds must be more than 0"),
        ({"insecure": True, "store": "mysql://u@h/d"}, "must be SQLite or PostgreSQL"),
        ({"insecure": True, "organization": "https://evil.example/organizations/O"}, "organization"),
    ],
)
def test_settings_that_do_not_work_are_refused_with_what_to_do(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ReceiverSettings(**given)
