"""What Prefect's loggers print of our runs."""

import logging

import pytest

import prefect_calendly.runs.quiet_logs  # noqa: F401  (adds the filters)


@pytest.mark.parametrize(
    ("state", "level"), [("Suspended('waits')", "INFO"), ("Failed('why')", "ERROR"), ("Cancelled()", "ERROR")]
)
def test_a_run_that_waits_for_a_person_is_no_error(state: str, level: str) -> None:
    logger = logging.getLogger("prefect.flow_runs")
    record = logger.makeRecord(logger.name, logging.ERROR, __file__, 1, "Finished in state %s", (state,), None)
    assert logger.filter(record)
    assert record.levelname == level
