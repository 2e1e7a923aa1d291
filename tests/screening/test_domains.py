"""Domains and addresses are compared in one form, and a domain that stands for everybody is no domain to block."""

import string

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefect_calendly.screening.domains import comparable_domain, normal_domain, registrable_domain
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
