"""No log has what can be a secret, such as the parameters of a flow or the URL of a webhook; nor a false alarm."""

from __future__ import annotations

import logging
import threading

import pytest
from prefect.exceptions import ParameterTypeError

from prefect_calendly.runs.flow import calendly_flow
from prefect_calendly.runs.quiet_logs import urls_unlogged
from tests.inline import Inline


@calendly_flow(name="quiet-of-tests")
async def quiet(token: str, number: int) -> int:
    return number


async def test_the_parameters_of_our_flows_are_not_logged_when_one_is_invalid(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("prefect.flows").error(
        "Parameter validation failed for flow 'quiet-of-tests'. Parameters: {'token': 's3cret'}"
    )
    logging.getLogger("prefect.flows").error("Parameter validation failed for flow 'another': {'token': 'theirs'}")
    assert "s3cret" not in caplog.text
    assert "'quiet-of-tests'; the error says which parameter" in caplog.text
    assert "theirs" in caplog.text


async def test_the_error_itself_says_which_parameter_is_invalid(inline: Inline) -> None:
    with pytest.raises(ParameterTypeError, match="number"):
        await quiet("s3cret", "many")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("state", "level"), [("Suspended('waits')", "INFO"), ("Failed('why')", "ERROR"), ("Cancelled()", "ERROR")]
)
def test_a_run_that_waits_for_a_person_is_no_error(state: str, level: str) -> None:
    logger = logging.getLogger("prefect.flow_runs")
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, "Finished in state %s", (state,), None)
    assert logger.filter(record)
    assert record.levelname == level


def test_urls_are_hidden_inside_the_block_only_and_in_every_thread(caplog: pytest.LogCaptureFixture) -> None:
    def log(url: str) -> None:
        for name in ("httpx", "urllib3.connectionpool", "apprise"):
            logging.getLogger(name).warning("POST %s", url)

    with urls_unlogged():
        with urls_unlogged():
            log("https://hooks.example/inner")
        log("https://hooks.example/outer")
        thread = threading.Thread(target=log, args=["https://hooks.example/thread"])
        thread.start()
        thread.join()
    assert caplog.text == ""
    log("https://other.example")
    assert caplog.text.count("https://other.example") == 3
