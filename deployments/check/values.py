"""Check the values that a deployments file takes: misspelled names, and placeholders that would go live."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic import ValidationError

from deployments.check.validation import did_you_mean, texts_of
from deployments.files import VALUES
from prefect_calendly.deploy_steps import read_values
from prefect_calendly.subscription.spec import SubscriptionSpec

_READ_VALUES: Final = f"{read_values.__module__}.{read_values.__name__}"


def unknown_values(raw: dict[str, Any]) -> Iterator[str]:
    """Name the values that no deployment takes.

    Args:
        raw: A deployments file whose steps can be run.
    """
    for step in raw.get("build") or []:
        if inputs := step.get(_READ_VALUES):
            texts = (text for _, text in texts_of(raw["deployments"], ""))
            taken = re.findall(rf"\{{\{{\s*{re.escape(inputs['id'])}\.(\w+)", "\n".join(texts))
            for name in read_values(inputs["file"], inputs.get("otherwise")):
                if name not in taken:
                    yield f"{inputs['file']}: {name}: no deployment takes this{did_you_mean(name, taken)}"


def placeholders(deployments: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Name callback URLs that are placeholders, which must not reach a real account.

    `https://none.invalid` is no mistake: it says that there is no receiver.

    Args:
        deployments: Deployments without other problems.
    """
    for deployment in deployments:
        try:
            spec = SubscriptionSpec.model_validate((deployment.get("parameters") or {}).get("subscription"))
        except ValidationError:  # it has another kind of parameters
            continue
        if spec.is_placeholder and not spec.host.endswith(".invalid"):
            place = f"{deployment['name']}: parameters.subscription.callback_url"
            yield f"{place}: {spec.host} is a placeholder; write your own into {VALUES}"
