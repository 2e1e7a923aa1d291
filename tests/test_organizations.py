"""Memberships, over HTTP."""

import pytest

from prefect_calendly import CalendlyCredentials
from prefect_calendly.organizations import MembershipUser, OrganizationMembership, alist_memberships
from prefect_calendly.sandbox import Sandbox
from prefect_calendly.sandbox.seed import ALICE, MEMBERSHIP, ORGANIZATION
from tests.support import no_request, nothing_unknown, uri


async def test_all_members_of_the_organization_with_every_documented_member(
    credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with nothing_unknown(sandbox):
        memberships = await alist_memberships.fn(credentials, organization=ORGANIZATION)
    assert len(memberships) == 4
    (alice,) = [item for item in memberships if item.uri == uri("organization_memberships", MEMBERSHIP)]
    assert (alice.role, alice.user.uri, alice.organization) == (
        "admin",
        uri("users", ALICE),
        uri("organizations", ORGANIZATION),
    )
    assert alice.model_fields_set == set(OrganizationMembership.model_fields)
    assert alice.user.model_fields_set == set(MembershipUser.model_fields)
    assert alice.model_extra == alice.user.model_extra == {}


async def test_every_filter_and_paging(credentials: CalendlyCredentials, sandbox: Sandbox) -> None:
    everybody = await alist_memberships.fn(credentials, organization=ORGANIZATION)
    with nothing_unknown(sandbox):
        for filters in ({"user": ALICE}, {"email": "alice.johnson@acme.com"}, {"role": "admin"}):
            (found,) = await alist_memberships.fn(credentials, organization=ORGANIZATION, **filters)
            assert found.user.uri == uri("users", ALICE)
        (owner,) = await alist_memberships.fn(credentials, organization=ORGANIZATION, role="owner")
        assert owner.role == "owner"
        assert await alist_memberships.fn(credentials, organization=ORGANIZATION, count=3) == everybody
        assert await alist_memberships.fn(credentials, organization=ORGANIZATION, limit=2) == everybody[:2]
        assert len(await alist_memberships.fn(credentials, user=ALICE)) == 1
    assert await alist_memberships.fn(credentials, organization=ORGANIZATION, email="nobody@example.com") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give `organization` or `user`"),
        ({"organization": uri("users", "X")}, "organization must be the URI .* of an organization"),
        ({"user": "me"}, "user cannot be 'me'"),
        ({"user": ALICE, "role": "boss"}, "role must be one of owner, admin, user, not 'boss'"),
        ({"user": ALICE, "email": "nobody"}, "email must be an e-mail address"),
        ({"user": ALICE, "email": ""}, "email must be an e-mail address"),
        ({"user": ALICE, "count": 0}, "count must be 1 to 100"),
        ({"user": ALICE, "limit": 0}, "limit must be at least 1"),
    ],
)
async def test_bad_arguments_cost_no_request(
    arguments: dict[str, object], words: str, credentials: CalendlyCredentials, sandbox: Sandbox
) -> None:
    with no_request(sandbox), pytest.raises(ValueError, match=words):
        await alist_memberships.fn(credentials, **arguments)
