"""What to do about the subscriptions of a URL: which one to keep, or to make one, and which to delete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from prefect_calendly.subscription.keys import KeyRing
from prefect_calendly.subscription.spec import Account, SubscriptionSpec
from prefect_calendly.webhook_subscriptions import WebhookSubscription

Change = Literal["created", "unchanged", "replaced", "revived"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the subscriptions of one URL."""

    outcome: Change
    keep: WebhookSubscription | None
    """None: a new one is to be made."""
    delete: tuple[WebhookSubscription, ...]
    """Those that still deliver come last."""
    reason: str


def make_plan(
    found: Iterable[WebhookSubscription],
    spec: SubscriptionSpec,
    account: Account,
    keys: KeyRing | None = None,
) -> Plan:
    """Decide what to do.

    Args:
        found: Subscriptions that exist, of any URL.
        spec: The subscription that there should be.
        account: Whose it should be.
        keys: The signing keys; None for a subscription without one.

    Returns:
        The plan; after it was carried out, exactly one subscription of the URL is left.
    """
    # Oldest first: runs that plan at the same time keep the same one.
    same_url = sorted(
        (hook for hook in found if hook.callback_url == spec.callback_url), key=lambda hook: (hook.created_at, hook.uri)
    )
    differences = {hook.uri: _differences(hook, spec, account, keys) for hook in same_url}
    fitting = [hook for hook in same_url if not differences[hook.uri]]
    # Only `disabled` is known to be final: a state that Calendly may add is left alone.
    alive = sorted((hook for hook in fitting if hook.state != "disabled"), key=lambda hook: hook.state != "active")
    keep = alive[0] if alive else None
    delete = tuple(sorted((hook for hook in same_url if hook is not keep), key=lambda hook: hook.state != "disabled"))
    if keep is not None:
        extra = f", and {len(delete)} more of the same URL to delete" if delete else ""
        return Plan("unchanged", keep, delete, f"it is as it should be{extra}")
    if not same_url:
        return Plan("created", None, (), "no subscription had this URL")
    if fitting:
        return Plan("revived", None, delete, "Calendly disabled it, because deliveries had failed for 24 hours")
    return Plan("replaced", None, delete, "; ".join(dict.fromkeys(differences[hook.uri] for hook in same_url)))


def _differences(hook: WebhookSubscription, spec: SubscriptionSpec, account: Account, keys: KeyRing | None) -> str:
    """Say in which way a subscription was not as it should be; an empty text if it was."""
    differences = []
    if hook.scope != spec.scope:
        differences.append(f"its scope was {hook.scope}, not {spec.scope}")
    elif hook.organization != account.organization:
        differences.append("it belonged to another organization")
    elif (spec.scope == "user" and hook.user != account.user) or (spec.scope == "group" and hook.group != spec.group):
        differences.append(f"it belonged to another {spec.scope}")
    if missing := [name for name in spec.events if name not in hook.events]:
        differences.append(f"it lacked {', '.join(missing)}")
    if unwanted := [name for name in hook.events if name not in spec.events]:
        differences.append(f"it had {', '.join(unwanted)} too")
    if keys is not None and not keys.fits(hook_uuid(hook)):
        differences.append("it was not made with the signing key that is in use")
    return ", ".join(differences)


def hook_uuid(hook: WebhookSubscription) -> str:
    """Return the uuid of a subscription."""
    return hook.uri.rpartition("/")[2]
