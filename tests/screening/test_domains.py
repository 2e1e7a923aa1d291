"""Domains and addresses are compared in one form, and a domain that stands for everybody is no domain to block."""

import re
import string

import idna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_calendly.screening.domains import (
    Address,
    comparable_domain,
    mask_email,
    normal_domain,
    normal_email,
    read_address,
    registrable_domain,
)
from prefect_calendly.screening.policy import CancelPolicy


@pytest.mark.parametrize("suffix", ["co.uk", "CO.UK.", "com.br", "公司.cn", "kobe.jp", "anything.ck"])
def test_a_public_suffix_is_refused_as_a_blocked_domain_and_the_error_says_why(suffix: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CancelPolicy(blocked_domains=["spam.example", suffix])
    ((error),) = caught.value.errors()
    assert error["loc"] == ("blocked_domains", 1)
    assert "not a public suffix such as co.uk" in error["msg"]
    assert "Block those domains themselves" in error["msg"]


@pytest.mark.parametrize(
    "domain",
    [
        "spam.co.uk",
        "mail.spam.co.uk",
        "spam.example",
        "duckdns.org",
        "github.io",
        "city.kobe.jp",
        "xn--bcher-kva.example",
    ],
)
def test_what_somebody_has_registered_can_be_blocked_also_what_a_company_lets_others_use(domain: str) -> None:
    assert registrable_domain(domain) == domain


def test_a_public_suffix_can_be_allowed() -> None:
    assert CancelPolicy(blocked_domains=["spam.example"], allowed_domains=["ac.uk"]).allowed_domains == ["ac.uk"]


@given(st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=70))
def test_a_label_of_plain_letters_is_compared_as_idna_has_it(label: str) -> None:
    try:
        expected = idna.encode(label, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        expected = label.lower()
    assert comparable_domain(label) == expected


@given(st.lists(st.text(string.ascii_letters + "bücherßéø", min_size=1, max_size=8), min_size=2, max_size=3))
def test_what_is_normal_stays_so_when_it_is_compared(labels: list[str]) -> None:
    try:
        domain = normal_domain(".".join(labels))
    except ValueError:
        return
    assert comparable_domain(".".join(labels)) == domain == comparable_domain(domain) == normal_domain(domain)


words = st.text(string.ascii_lowercase + string.digits + "-+_'", min_size=1, max_size=8)
comments = st.recursive(
    st.text(string.ascii_letters + ' @.<,"', max_size=5),
    lambda inner: inner.map(lambda text: f"({text})"),
    max_leaves=3,
).map(lambda text: f"({text})")
blanks = st.lists(st.sampled_from(["", " ", "\t", "\r\n "]) | comments, max_size=2).map("".join)


@settings(max_examples=30)
@given(st.data(), st.lists(words, min_size=1, max_size=3), st.lists(words, min_size=2, max_size=3))
def test_comments_blanks_and_quotes_change_no_address(data: st.DataObject, local: list[str], labels: list[str]) -> None:
    domain = ".".join("".join(filter(str.isalnum, label)) or "x" for label in labels)
    quoted = ".".join(f'"{word}"' if data.draw(st.booleans()) else word for word in local)
    parts = re.split(r"([.@])", f"{quoted}@{domain}")
    written = "".join(data.draw(blanks) + part for part in parts) + data.draw(blanks)
    assert read_address(written) == Address(".".join(local), domain)
    assert normal_email(written) == f"{'.'.join(local)}@{domain}"


@given(st.text(max_size=40) | st.text('"\\\\()<>@.,;: \\tabé', max_size=60))
def test_whatever_is_written_is_an_address_or_none_and_is_masked(text: str) -> None:
    address = read_address(text)
    assert address is None or address.domain
    assert mask_email(mask_email(text)) == mask_email(text)


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("bob@example.com", "b…@example.com"),
        ("bob@bücher.example", "b…@bücher.example"),
        ("bob@example.com (Bob Smith)", "b…@example.com"),
        ("Bob: bob.smith@example.com, al@example.com;", "B…"),
        ("bob.smith", "b…"),
        ("", "…"),
    ],
)
def test_a_masked_address_shows_its_domain_and_nothing_else(email: str, shown: str) -> None:
    assert mask_email(email) == shown
