"""Webhook subscriptions: which URLs Calendly sends events to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr, model_validator

from prefect_calendly.client import CalendlyClient
from prefect_calendly.client.identifiers import Reference, filled_path, optional_uris, uuid_of
from prefect_calendly.resource import Resource, Time, check_choice, check_sort
from prefect_calendly.tasks import make_tasks

WebhookScope = Literal["organization", "user", "group"]
WebhookEvent = Literal[
    "invitee.created",
    "invitee.canceled",
    "invitee_no_show.created",
    "invitee_no_show.deleted",
    "routing_form_submission.created",
    "contact.created",
    "contact.updated",
    "contact.deleted",
    "meeting_recap.created",
    "meeting_recap.updated",
    "meeting_recap.deleted",
    "event_type.created",
    "event_type.updated",
    "event_type.deleted",
]
EVENTS: tuple[str, ...] = get_args(WebhookEvent)
SCOPES = ("organization", "user", "group")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ONLY_SCOPE = {"routing_form_submission": "organization", "meeting_recap": "user"}


class WebhookSubscription(Resource):
    """A subscription, without its signing key."""

    uri: str
    callback_url: str
    created_at: Time
    updated_at: Time
    retry_started_at: Time | None = None
    state: Literal["active", "disabled"] | str
    events: tuple[WebhookEvent | str, ...]
    scope: WebhookScope | str
    organization: str
    user: str | None = None
    group: str | None = None
    creator: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_key(cls, values: Any) -> Any:
        """Calendly never returns the key; if it did, it would be kept, as all unknown members are."""
        return {name: value for name, value in values.items() if name != "signing_key"}


def _owner(organization: Reference, scope: str, user: Reference | None, group: Reference | None) -> dict[str, str]:
    """Check that the owner fits the scope; return the URIs to send."""
    check_choice(scope, SCOPES, "scope")
    if (user is not None) != (scope == "user"):
        raise ValueError("`user` is needed with scope user, and only then")
    if (group is not None) != (scope == "group"):
        raise ValueError("`group` is needed with scope group, and only then")
    return optional_uris(organization=(organization, "organizations"), user=(user, "users"), group=(group, "groups"))


def checked_callback_url(url: str) -> str:
    """Check a URL that Calendly is to deliver to: https, with a host, without user and fragment.

    Args:
        url: The URL; http:// is allowed for this machine only, where the sandbox can deliver and Calendly cannot.

    Returns:
        The same URL.

    Raises:
        ValueError: It is not such a URL.
    """
    wanted = (
        "url must be an https:// URL that Calendly can reach, without user, fragment or blanks"
        " (http:// is for this machine only: 127.0.0.1, localhost or [::1])"
    )
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is checked when it is read
    except ValueError:
        raise ValueError(wanted) from None
    unwanted = parts.username or parts.password or parts.fragment or re.search(r"\s", url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK)
    if not secure or not host or unwanted:
        raise ValueError(wanted)
    return url


def checked_events(events: Iterable[str], scope: str) -> list[str]:
    """Check event names against a scope: `meeting_recap.*`, for example, exists in scope `user` only.

    Args:
        events: Names such as `invitee.created`.
        scope: `organization`, `user` or `group`.

    Returns:
        The names, each once, in order.

    Raises:
        ValueError: There is no event, one is unknown, or one does not exist in this scope.
    """
    names = list(dict.fromkeys([events] if isinstance(events, str) else events))
    if not names:
        raise ValueError("events must name at least one event, such as invitee.created")
    for name in names:
        check_choice(name or "", EVENTS, "each of events")
        resource = name.partition(".")[0]
        if _ONLY_SCOPE.get(resource, scope) != scope:
            raise ValueError(f"the event {name} needs scope {_ONLY_SCOPE[resource]}")
    return names


async def list_webhook_subscriptions_via(
    client: CalendlyClient,
    *,
    organization: Reference,
    scope: WebhookScope,
    user: Reference | None = None,
    group: Reference | None = None,
    sort: str | None = None,
    count: int = 100,
    page_token: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[WebhookSubscription]:
    """Return the webhook subscriptions of one scope.

    Source: `GET /webhook_subscriptions`.

    Args:
        credentials: The Calendly account to use.
        organization: The organization that the subscriptions belong to.
        scope: `organization`, `user` or `group`.
        user: The user; required with scope `user`, and only then.
        group: The group; required with scope `group`, and only then.
        sort: `created_at:asc` or `created_at:desc`.
        count: Items per page, 1 to 100.
        page_token: Where to start: the token of an earlier answer to the same call, with the same `count`.
        limit: Return at most this many items; all by default.

    Returns:
        The subscriptions.

    Raises:
        ValueError: `user` and `group` do not fit `scope`, or an argument is out of range.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        hooks = list_webhook_subscriptions(
            credentials, organization=user.current_organization, scope="organization"
        )
        ```
    """
    owner = _owner(organization, scope, user, group)
    check_sort(sort, ("created_at",))
    async for subscription in client.pages(
        "/webhook_subscriptions",
        WebhookSubscription,
        params={**owner, "scope": scope, "sort": sort},
        count=count,
        page_token=page_token,
        limit=limit,
    ):
        yield subscription


alist_webhook_subscriptions, list_webhook_subscriptions = make_tasks(
    "List webhook subscriptions", list_webhook_subscriptions_via
)


async def create_webhook_subscription_via(
    client: CalendlyClient,
    *,
    url: str,
    events: Iterable[WebhookEvent],
    organization: Reference,
    scope: WebhookScope,
    user: Reference | None = None,
    group: Reference | None = None,
    signing_key: SecretStr | str | None = None,
) -> WebhookSubscription:
    """Subscribe a URL to events.

    After a lost answer, the subscription is looked up before anything is repeated.

    Source: `POST /webhook_subscriptions`.

    Args:
        credentials: The Calendly account to use; its plan must include webhooks.
        url: The https URL that Calendly delivers to; it must be reachable from outside, and not be subscribed yet.
        events: Names such as `invitee.created`; for one that Calendly has added since, use `call_endpoint`.
        organization: The organization that the subscription belongs to.
        scope: `organization` (owners and admins only), `user` or `group`.
        user: The user; required with scope `user`, and only then.
        group: The group; required with scope `group`, and only then.
        signing_key: Secret that Calendly signs the deliveries with; for personal access tokens only, because an OAuth
            app has its own.

    Returns:
        The subscription.

    Raises:
        ValueError: `url` or `events` is not usable, or `user` and `group` do not fit `scope`. Nothing was sent.
        ConflictError: The URL is already subscribed.
        PlanRequiredError: The plan does not include webhooks.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        user = get_current_user(credentials)
        hook = create_webhook_subscription(
            credentials,
            url="https://hooks.example.com/calendly",
            events=["invitee.created", "invitee.canceled"],
            organization=user.current_organization,
            scope="organization",
        )
        ```
    """
    owner = _owner(organization, scope, user, group)
    names = checked_events(events, scope)
    body: dict[str, Any] = {"url": checked_callback_url(url), "events": names, "scope": scope, **owner}
    if signing_key:
        body["signing_key"] = SecretStr(signing_key) if isinstance(signing_key, str) else signing_key

    async def create() -> WebhookSubscription:
        return await client.resource("/webhook_subscriptions", WebhookSubscription, method="POST", json=body)

    async def existing() -> WebhookSubscription | None:
        listing = list_webhook_subscriptions_via
        async for hook in listing(client, organization=organization, scope=scope, user=user, group=group):
            if hook.callback_url == url and set(hook.events) == set(names) and hook.state == "active":
                return hook
        return None

    return await client.confirm_write(create, existing)


acreate_webhook_subscription, create_webhook_subscription = make_tasks(
    "Create a webhook subscription", create_webhook_subscription_via, writes=True
)


async def get_webhook_subscription_via(client: CalendlyClient, subscription: Reference) -> WebhookSubscription:
    """Return one webhook subscription.

    Source: `GET /webhook_subscriptions/{uuid}`.

    Args:
        credentials: The Calendly account to use.
        subscription: URI, uuid or model.

    Returns:
        The subscription as it is now.

    Raises:
        ValueError: `subscription` does not name a webhook subscription.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        hook = get_webhook_subscription(credentials, "GGGGGGGGGGGGGGGG")
        print(hook.state)
        ```
    """
    return await client.resource(_path(subscription), WebhookSubscription)


aget_webhook_subscription, get_webhook_subscription = make_tasks(
    "Get a webhook subscription", get_webhook_subscription_via
)


async def delete_webhook_subscription_via(client: CalendlyClient, subscription: Reference) -> None:
    """Delete a webhook subscription.

    After a lost answer, it is looked up before anything is repeated.

    Source: `DELETE /webhook_subscriptions/{uuid}`.

    Args:
        credentials: The Calendly account to use.
        subscription: URI, uuid or model.

    Raises:
        ValueError: `subscription` does not name a webhook subscription.
        NotFoundError: There is no such subscription.
        CalendlyError: The call failed; see `prefect_calendly.client.errors`.

    Example:
        ```python
        delete_webhook_subscription(credentials, "GGGGGGGGGGGGGGGG")
        ```
    """
    await client.delete(_path(subscription))


adelete_webhook_subscription, delete_webhook_subscription = make_tasks(
    "Delete a webhook subscription", delete_webhook_subscription_via, writes=True
)


def _path(subscription: Reference) -> str:
    uuid = uuid_of(subscription, "webhook_subscriptions", "subscription")
    return filled_path("/webhook_subscriptions/{uuid}", {"uuid": uuid})
