"""A person decides: a flow run shows its proposals, ends, and starts again with the answer.

Prefect keeps what the run remembers, the form and the answer with the flow run, so another process, on another machine,
can go on with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

from prefect import asuspend_flow_run, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.exceptions import Pause, PrefectHTTPStatusError
from prefect.input import Keyset, RunInput, keyset_from_base_key
from pydantic import ConfigDict, Field, create_model

from prefect_calendly.runs.forms import form_pattern
from prefect_calendly.runs.markdown import escape
from prefect_calendly.scheduled_events import LONGEST_REASON

# Nobody reads a longer list.
MOST_PROPOSALS: Final = 100
LONGEST_WAIT_HOURS: Final = 720


class Proposal(NamedTuple):
    """One thing that a person can approve or leave alone."""

    id: str
    label: str
    """What the form shows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person has decided."""

    approved: frozenset[str]
    """Ids of the proposals that are approved."""
    rejected: bool
    """Whether the person has rejected all proposals at once."""
    reason: str
    by: str
    """The name that they have entered."""
    at: datetime

    def __str__(self) -> str:
        return f"{self.by}, {self.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


async def check_can_wait(instead: str) -> None:
    """Check that this run can end and start again, before it does anything.

    Args:
        instead: What the user can do if it cannot, such as `start the deployment cancel-with-approval`.

    Raises:
        ValueError: The run was not started from a deployment, is part of another flow run, or would be canceled when
            it starts again while another run of its deployment is under way.
    """
    if runtime.deployment.id is None or runtime.flow_run.parent_flow_run_id is not None:
        raise ValueError(f"only a run of a deployment can wait for a person, and no subflow can; {instead}")
    async with get_client() as client:
        deployment = await client.read_deployment(UUID(runtime.deployment.id))
    options = deployment.concurrency_options
    if options is not None and options.collision_strategy == ConcurrencyLimitStrategy.CANCEL_NEW:
        raise ValueError(
            "this deployment cancels a run that starts while another is under way (collision_strategy: CANCEL_NEW), "
            f"and so would lose what a person has approved; {instead}"
        )


async def remember(key: str, text: str) -> None:
    """Keep a text with this flow run, for the process that goes on with it.

    Args:
        key: Letters, digits and dashes. What is kept under a key is never replaced.
        text: What to keep. It stays in Prefect's database as long as the run.
    """
    async with get_client() as client:
        try:
            await client.create_flow_run_input(UUID(runtime.flow_run.id), key, text)
        except PrefectHTTPStatusError as error:
            if not _is_there_already(error):
                raise


async def forget(*keys: str) -> None:
    """Drop what this flow run remembers under these keys, in this order; unknown keys are ignored."""
    async with get_client() as client:
        for key in keys:
            try:
                await client.delete_flow_run_input(UUID(runtime.flow_run.id), key)
            except PrefectHTTPStatusError as error:
                if error.response.status_code != 404:
                    raise


async def recall(key: str, flow_run_id: UUID | None = None) -> str | None:
    """Return the text that a flow run remembers; None if there is none.

    Args:
        key: As in `remember`.
        flow_run_id: The flow run; this one by default.
    """
    async with get_client() as client:
        try:
            return await client.read_flow_run_input(flow_run_id or UUID(runtime.flow_run.id), key)
        except PrefectHTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise


async def is_answered(key: str) -> bool:
    """Say whether a person has decided.

    Args:
        key: As in `ask`.
    """
    return await recall(_keys(key)["response"]) is not None


async def ask(key: str, proposals: Sequence[Proposal], introduction: str, reason: str, until: datetime) -> Answer:
    """Return what a person decides; end this run until somebody has.

    Args:
        key: Letters, digits and dashes; a new one for each question.
        proposals: What to decide about, in the order of the form; the same ones when the run goes on.
        introduction: Markdown above the form.
        reason: Text that the form suggests, and that the person can change.
        until: How long to wait (aware). After that Prefect ends the run as failed.

    Returns:
        The answer.

    Raises:
        ValueError: The answer contains proposals that were not in the form.
    """
    form = _form(proposals, reason).with_initial_data(description=introduction)
    seconds = max(1, math.ceil((until - datetime.now(UTC)).total_seconds()))
    keys = _keys(key)
    # If the run has crashed since, Prefect has forgotten that it has asked, but not the form and the answer.
    if await is_answered(key):
        answer: Any = await form.aload(keys)
    else:
        await forget(keys["schema"], keys["description"])
        try:
            answer = await asuspend_flow_run(wait_for_input=form, timeout=seconds, key=key)
        except PrefectHTTPStatusError as error:
            if not _is_there_already(error):
                raise
            # The run is suspended and its form is there: what is left to do is what Prefect would have done next.
            await remember(keys["description"], json.dumps(introduction))
            raise Pause from None
    rejected = answer.decision == "reject"
    # By number: another release, or other time zones on this machine, may have changed the labels.
    numbers = {str(number): proposal.id for number, proposal in enumerate(proposals, 1)}
    left = [label.partition(".")[0] for label in answer.leave]
    if not numbers.keys() >= set(left):
        raise ValueError("the answer contains proposals that were not in the form: nothing was done; start a new run")
    return Answer(
        approved=frozenset() if rejected else frozenset(numbers.values()) - {numbers[number] for number in left},
        rejected=rejected,
        reason=answer.reason.strip(),
        by=answer.decided_by.strip(),
        at=await _answered_at(),
    )


def _is_there_already(error: PrefectHTTPStatusError) -> bool:
    # Prefect's client repeats a request that a busy server has not answered in time, although it took effect.
    return error.response.status_code == 409


def _keys(key: str) -> Keyset:
    return keyset_from_base_key(f"suspended-{key}")


class _Approval(RunInput):
    # Both are needed although they have a default, which the form sends as long as nothing is entered: Prefect's error
    # then quotes it, and says where to go. Of what is missing altogether, it would only say how the field is called.
    model_config = ConfigDict(json_schema_extra={"required": ["decision", "decided_by"]})


def _form(proposals: Sequence[Proposal], reason: str) -> type[RunInput]:
    """Return the form. All limits are in its schema, which is all that Prefect checks before the run goes on."""

    def placed(position: int, **extra: Any) -> dict[str, Any]:
        return {"position": position, **extra}

    labels = [f"{number}. {escape(proposal.label)}" for number, proposal in enumerate(proposals, 1)]
    fields: dict[str, Any] = {
        "decision": (
            Literal["approve", "reject"],
            Field(
                default="not chosen yet (Decision, below the list)",
                description="approve: do everything but what you leave alone below. reject: do nothing.",
                json_schema_extra=placed(0),
            ),
        ),
        "leave": (
            list[Annotated[str, Field(json_schema_extra={"enum": labels})]],
            Field(
                default=[],
                title="Leave alone",
                description="Choose what not to do.",
                json_schema_extra=placed(1, uniqueItems=True),
            ),
        ),
        "reason": (
            str,
            Field(
                default=reason,
                max_length=LONGEST_REASON,
                description="What the invitees are told; may be empty.",
                json_schema_extra=placed(2),
            ),
        ),
        "decided_by": (
            str,
            Field(
                default="",
                max_length=100,
                title="Your name",
                description="For the audit table: Prefect does not record who has pressed the button.",
                json_schema_extra=placed(3, **form_pattern(r"\S", "your name, below the list")),
            ),
        ),
    }
    return create_model("Approval", __base__=_Approval, **fields)


async def _answered_at() -> datetime:
    """Return when the run was resumed; Prefect does not record by whom."""
    async with get_client() as client:
        states = await client.read_flow_run_states(UUID(runtime.flow_run.id))
    resumed = [state.timestamp for state in states if state.name == "Resuming"]
    return max(resumed, default=datetime.now(UTC))
