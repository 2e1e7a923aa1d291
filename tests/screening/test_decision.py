"""What is decided about an event: those of blocked domains and no others, and nobody welcome loses a booking."""

from dataclasses import replace
from string import ascii_lowercase, digits
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_calendly.screening.decision import Decision, Rules, decide, own_domain_warnings
from prefect_calendly.screening.domains import Address
from prefect_calendly.screening.policy import CancelPolicy
from tests.screening.conftest import BAD, GOOD, WORSE, event_of, invitee_of, policy_of
from tests.world import ALICE


def decision_of(policy: CancelPolicy, *emails: str, own: tuple[str, ...] = (), **event: Any) -> Decision:
    return decide(event_of(**event), map(invitee_of, emails), Rules.of(policy, own))


def action_for(email: str, *domains: str, own: tuple[str, ...] = (), **members: Any) -> str:
    return decision_of(policy_of(*domains, **members), email, own=own).action


@pytest.mark.parametrize(
    ("email", "domain"),
    [
        ("eve@blocked.example", "blocked.example"),
        ("Eve@BLOCKED.Example", "blocked.example"),
        ("eve@blocked.example", "Blocked.EXAMPLE."),
        ("eve@mail.eu.blocked.example", "blocked.example"),
        ("eve@bücher.example", "xn--bcher-kva.example"),
        ("eve@xn--bcher-kva.example", "bücher.example"),
        ("eve@SHOP.BÜCHER.EXAMPLE", "bücher.example"),
        ("eve@under_score.blocked.example", "blocked.example"),
        ("eve@under_score.bücher.example", "xn--bcher-kva.example"),
        ("eve@-x.ｂlocked.example。", "blocked.example"),
        ("eve@\N{CROSS MARK}.Blocked.example", "blocked.example"),
        ("odd@name@blocked.example", "blocked.example"),
        ("eve@blocked.example\t", "blocked.example"),
        ("\u00a0eve @ blocked . example\r\n ", "blocked.example"),
        ("eve@blocked.example(work (at (home)))", "blocked.example"),
        ("eve(\\))@(a)blocked(b).(c)example", "blocked.example"),
        ("eve@blocked\u2024example", "blocked.example"),
        ("eve\uff20blocked\ufe52example", "blocked.example"),
        ("eve@blo\u00adck\u200bed.example", "blocked.example"),
        ('"eve"@blocked.example', "blocked.example"),
        ('"e@good.example"@blocked.example', "blocked.example"),
        ("Eve <eve@blocked.example>", "blocked.example"),
        ('"Eve, (work)" < eve@blocked.example > (home)', "blocked.example"),
    ],
)
def test_an_address_of_a_blocked_domain_is_found_however_it_is_written(email: str, domain: str) -> None:
    assert action_for(email, domain) == "cancel"


@pytest.mark.parametrize(
    "email",
    [
        "eve@notblocked.example",
        "eve@blocked.example.org",
        "eve@example",
        "blocked.example@good.example",
        "eve@xblocked.example",
        "eve(@blocked.example)@good.example",
        '"eve@blocked.example"@good.example',
        '"(eve"@good.example',
        '"blocked.example" <eve@good.example>',
    ],
)
def test_a_look_alike_is_kept(email: str) -> None:
    assert action_for(email) == "keep"


UNREADABLE = [
    "",
    "eve",
    "eve@",
    "friends: eve@blocked.example;",
    "eve@[blocked.example]",
    "eve@[192.0.2.1]",
    "eve@blocked.example, eva@good.example",
    "eve@blocked.example eva@good.example",
    "eve@blocked.example <eva@good.example>",
    "<@blocked.example:eva@good.example>",
    '"eve@good.example',
    "eve@good.example(",
    "eve@blocked.example\x00",
    "eve@blocked\u202e.example",
    "eve@bl ocked.example",
    "e@x" * 400,
]


@pytest.mark.parametrize("email", UNREADABLE)
def test_what_is_no_plain_address_is_for_a_person_to_look_at_and_never_kept_or_canceled(email: str) -> None:
    decision = decision_of(policy_of(), email)
    assert (decision.action, decision.why) == ("undecided", "invitee whose address cannot be read")
    assert [match.email for match in decision.matches] == [email]
    assert decision_of(policy_of(), GOOD, guests=[email]).why == "guest whose address cannot be read"
    assert decision_of(policy_of(check_guests=False), GOOD, guests=[email]).action == "keep"
    assert decision_of(policy_of(), email, status="canceled").action == "keep"


@pytest.mark.parametrize(
    ("emails", "limit", "group_events", "action"),
    [
        ([BAD, "eve@"], 10, "report", "report"),
        ([BAD, "eve@"], 10, "cancel", "cancel"),
        ([GOOD, "eve@"], 10, "cancel", "undecided"),
    ],
)
def test_who_cannot_be_read_counts_as_another_invitee_of_a_group_event(
    emails: list[str], limit: int, group_events: str, action: str
) -> None:
    assert decision_of(policy_of(group_events=group_events), *emails, limit=limit).action == action
    assert decision_of(policy_of(), "eve@", guests=[BAD]).why == "guest of blocked.example"


def test_subdomains_are_kept_where_they_are_not_included() -> None:
    assert action_for("eve@mail.blocked.example", include_subdomains=False) == "keep"
    assert action_for("eve@blocked.example", include_subdomains=False) == "cancel"


@pytest.mark.parametrize(
    ("allowed", "action"),
    [
        ({"allowed_emails": ["EVE@Blocked.Example"]}, "keep"),
        ({"allowed_emails": ["eva@blocked.example"]}, "cancel"),
        ({"allowed_emails": ['"eve" @blocked.example']}, "keep"),
        ({"allowed_domains": ["blocked.example"]}, "keep"),
        ({"allowed_domains": ["other.example"]}, "cancel"),
    ],
)
def test_the_allow_list_beats_the_block_list(allowed: dict[str, Any], action: str) -> None:
    assert action_for("Eve@blocked.example", **allowed) == action


@pytest.mark.parametrize(
    "email", ['"vip"@blocked.example', '"v\\ip"@blocked.example', "Vip (me) <VIP@blocked.example>"]
)
def test_who_is_allowed_is_so_however_the_address_is_written(email: str) -> None:
    assert action_for(email, allowed_emails=["vip@blocked.example"]) == "keep"
    assert action_for(email, allowed_emails=["vap@blocked.example"]) == "cancel"


def test_an_allowed_part_of_a_blocked_domain_is_kept() -> None:
    assert action_for("eve@partner.blocked.example", allowed_domains=["partner.blocked.example"]) == "keep"
    assert action_for("eve@sub.partner.blocked.example", allowed_domains=["partner.blocked.example"]) == "keep"
    assert action_for("eve@blocked.example", allowed_domains=["partner.blocked.example"]) == "cancel"


def test_own_domains_are_never_blocked_unless_the_policy_says_so_and_a_warning_names_them() -> None:
    own = ("blocked.example",)
    assert action_for("eve@blocked.example", own=own) == "keep"
    assert action_for("eve@blocked.example", own=own, protect_own_domains=False) == "cancel"
    assert action_for("eve@blocked.example", own=("mail.blocked.example",)) == "cancel"
    (warning,) = own_domain_warnings(policy_of("spam.example", "blocked.example"), own)
    assert "blocked.example" in warning
    (warning,) = own_domain_warnings(policy_of(), ["mail.blocked.example"])
    assert "blocked.example is blocked, but mail.blocked.example is one of your own" in warning
    (warning,) = own_domain_warnings(policy_of("mail.blocked.example"), ["blocked.example"])
    assert "mail.blocked.example is blocked, but blocked.example is one of your own" in warning
    assert own_domain_warnings(policy_of(include_subdomains=False), ["mail.blocked.example"]) == []
    assert own_domain_warnings(policy_of(), ["good.example"]) == []
    assert own_domain_warnings(policy_of(protect_own_domains=False), own) == []


@pytest.mark.parametrize(
    ("emails", "guests", "limit", "group_events", "action"),
    [
        ([BAD], [], 1, "report", "cancel"),
        ([GOOD], [BAD], 1, "report", "cancel"),
        ([GOOD], [], 1, "cancel", "keep"),
        ([BAD, GOOD], [], 10, "report", "report"),
        ([BAD, GOOD], [], 10, "cancel", "cancel"),
        ([BAD, WORSE], [], 10, "report", "cancel"),
        ([BAD], [], 10, "report", "cancel"),
        ([GOOD], [BAD], 10, "report", "report"),
        ([GOOD], [BAD], 10, "cancel", "cancel"),
        ([BAD, GOOD], [], 1, "report", "report"),  # whatever the limit says: there are others
        ([], [BAD], 1, "report", "cancel"),
        ([], [], 10, "cancel", "keep"),
    ],
)
def test_a_group_event_that_others_have_booked_is_canceled_only_if_the_policy_says_so(
    emails: list[str], guests: list[str], limit: int, group_events: str, action: str
) -> None:
    decision = decision_of(policy_of(group_events=group_events), *emails, guests=guests, limit=limit)
    assert decision.action == action
    assert [match.email for match in decision.matches] == [email for email in emails + guests if email != GOOD]


def test_canceled_invitees_and_canceled_events_do_not_count() -> None:
    rules = Rules.of(policy_of())
    left = [invitee_of(BAD, "canceled"), invitee_of(GOOD)]
    assert decide(event_of(limit=10), left, rules).action == "keep"
    good_left = [invitee_of(BAD), invitee_of(GOOD, "canceled")]
    assert decide(event_of(limit=10), good_left, rules).action == "cancel"
    assert decide(event_of(status="canceled"), [invitee_of(BAD)], rules).action == "keep"


def test_guests_are_checked_only_where_the_policy_says_so() -> None:
    assert decision_of(policy_of(check_guests=False), GOOD, guests=[BAD]).action == "keep"


def test_a_decision_says_why_and_when_it_is_for_the_host_and_hides_addresses() -> None:
    zones = {ALICE: "America/New_York"}
    people, rules = map(invitee_of, [BAD, GOOD]), Rules.of(policy_of(allowed_emails=["jane@blocked.example"]))
    decision = decide(event_of(guests=[WORSE], limit=9), people, rules, zones)
    assert decision.why == "invitee of blocked.example, guest of blocked.example; 1 other invitee"
    assert decision.host_zone == "America/New_York"
    assert decision.shared
    assert BAD not in repr(decision)
    assert "jane" not in repr(rules)
    assert decide(event_of(), [], rules).host_zone is None


# Long lists


class Counting(frozenset[str]):
    """A set that counts how often somebody looks into it, and refuses to be gone through."""

    lookups = 0

    def __contains__(self, item: object) -> bool:
        Counting.lookups += 1
        return super().__contains__(item)

    def __iter__(self) -> Any:
        raise AssertionError("a list was searched from its beginning to its end")


def test_with_long_lists_an_address_costs_a_few_lookups_in_sets() -> None:
    blocked, allowed = ([f"{kind}{number}.example" for number in range(10_000)] for kind in ("bad", "good"))
    rules = Rules.of(CancelPolicy.model_construct(blocked_domains=blocked, allowed_domains=allowed))
    rules = replace(rules, **{name: Counting(getattr(rules, name)) for name in ("blocked", "allowed", "own")})
    Counting.lookups = 0
    assert rules.blocked_domain(Address("eve", "mail.bad9999.example")) == "bad9999.example"
    assert rules.blocked_domain(Address("eve", "mail.good9999.example")) is None
    assert Counting.lookups <= 4 * 3


# Whatever comes together

labels = st.text(ascii_lowercase + digits, min_size=1, max_size=9)
domains = st.lists(labels, min_size=1, max_size=3).map(lambda parts: ".".join([*parts, "example"]))


def shuffled_case(text: str, upper: list[bool]) -> str:
    return "".join(letter.upper() if up else letter for letter, up in zip(text, upper + [False] * 99, strict=False))


@given(
    domain=domains, sub=st.lists(labels, max_size=3), case=st.lists(st.booleans(), max_size=60), within=st.booleans()
)
@settings(max_examples=50)
def test_exactly_a_domain_and_what_is_below_it_is_blocked(
    domain: str, sub: list[str], case: list[bool], within: bool
) -> None:
    email = shuffled_case("eve@" + ".".join([*sub, domain]), case)
    expected = "cancel" if within or not sub else "keep"
    assert action_for(email, shuffled_case(domain, case), include_subdomains=within) == expected
    assert action_for(f"eve@x{domain}", domain, include_subdomains=within) == "keep"
    assert action_for(f"eve@{domain}.other", domain, include_subdomains=within) == "keep"


def below(email: str, listed: list[str]) -> bool:
    """Said once more, in other words: a domain is below another if its labels end with the other's."""
    mine = email.rpartition("@")[2].split(".")
    return any(mine[-len(theirs) :] == theirs for theirs in (domain.split(".") for domain in listed))


few = st.sampled_from(["a.example", "b.example", "x.a.example", "y.x.a.example", "xa.example", "c.test"])


@given(
    people=st.lists(st.tuples(few, st.sampled_from(["active", "canceled"])), max_size=5),
    guests=st.lists(few, max_size=3),
    limit=st.sampled_from([1, 10]),
    blocked=st.lists(few, min_size=1, max_size=3),
    allowed=st.lists(few, max_size=2),
    own=st.lists(few, max_size=2),
    group_events=st.sampled_from(["report", "cancel"]),
)
def test_nobody_welcome_loses_a_group_booking_and_nobody_blocked_stays_unseen(
    people: list[tuple[str, str]],
    guests: list[str],
    limit: int,
    blocked: list[str],
    allowed: list[str],
    own: list[str],
    group_events: str,
) -> None:
    rules = Rules.of(policy_of(*blocked, allowed_domains=allowed, group_events=group_events), own)
    invitees = [invitee_of(f"p@{domain}", status) for domain, status in people]
    event = event_of(guests=[f"g@{domain}" for domain in guests], limit=limit)

    decision = decide(event, invitees, rules)

    def bad(domain: str) -> bool:
        return below(domain, blocked) and not below(domain, allowed) and not below(domain, own)

    active = [domain for domain, status in people if status == "active"]
    welcome = [domain for domain in active if not bad(domain)]
    unwanted = [domain for domain in [*active, *guests] if bad(domain)]
    assert (decision.action == "keep") == (not unwanted)
    assert len(decision.matches) == len(unwanted)
    if decision.action == "cancel" and group_events == "report":
        assert not welcome or (limit == 1 and len(active) == 1)
    if decision.action == "report":
        assert group_events == "report"
        assert welcome
    assert decide(event, [i for i in invitees if i.status == "active"], rules) == decision
