"""The docstrings of the public interface: none is missing, and their examples run as they stand."""

from __future__ import annotations

import doctest
import inspect

import pytest

from prefect_calendly import sandbox as package
from prefect_calendly.sandbox import Sandbox, SandboxControl, control, options, remote, sandbox_control
from prefect_calendly.sandbox import pytest as plugin
from prefect_calendly.sandbox import sandbox as sandbox_module
from prefect_calendly.sandbox.faults import KINDS

EXAMPLES = {
    test.name: test
    for module in (remote, sandbox_control, sandbox_module)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__.rpartition(".")[2])
    if test.examples
}


def public(item):
    return {name: getattr(item, name) for name in dir(item) if not name.startswith("_")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_stands(sandbox, name):
    sandbox.changed = True
    test = EXAMPLES[name]
    test.globs = {**test.globs, "sandbox": sandbox}
    assert doctest.DocTestRunner().run(test).failed == 0


def test_everything_public_is_documented_and_each_method_has_an_example():
    for item in (Sandbox, options.Options, remote.control, plugin.calendly_sandbox, plugin.calendly_sandbox_server):
        assert inspect.getdoc(item)
    for name, item in public(Sandbox).items():
        assert inspect.getdoc(item), name
    for name in public(SandboxControl):
        assert f"sandbox_control.SandboxControl.{name}" in EXAMPLES


def test_the_help_names_every_control_call_and_every_fault():
    lines = [line.split() for line in package.__doc__.splitlines() if line.startswith("    ")]
    described = {(line[0], line[1].partition("[")[0]) for line in lines if len(line) > 1}
    for method, path in control.calls.names():
        assert (method, path) in described
    for kind in KINDS:
        assert kind in package.__doc__
