"""What `pip install` gives, in an empty environment outside this repository: `make wheel-test`.

Builds sdist and wheel, installs the wheel where nothing of this repository is, and does what a new user does there:
check, init, the new project's tests, its deployments on a Prefect server, a run of one of them on the sandbox, and one
of a flow that is in no folder but in the package. It measures how long that takes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from deployments.local import own_environment
from deployments.processes import contained, free_port
from tests.endurance.running import KEY, ROOT, FailedError, ask, say, tail, until

# What a file in a container image or a managed work pool would say: the code is in the package, nothing is fetched.
_FROM_THE_PACKAGE: Final = """\
name: elsewhere
pull: []
deployments:
  - name: from-the-package
    entrypoint: prefect_calendly.flows.cancel_blocked_domains.cancel_blocked_domains
    parameters:
      credentials: {$ref: {block_document_slug: calendly-credentials/main}}
      policy: {blocked_domains: [blocked.example]}
    schedules: []
    work_pool: {name: calendly}
"""
_SAVE_BLOCK: Final = 'from prefect_calendly import CalendlyCredentials; CalendlyCredentials().save("main")'


def main() -> int:
    """Run it; return 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(prog="make wheel-test", description=__doc__)
    parser.add_argument("--dist", type=Path, help="keep sdist and wheel in this folder")
    parser.add_argument("--limit", type=float, default=300, help="seconds that it may take a new user (default: 300)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="calendly-wheel-") as folder, contained(home := Path(folder).resolve()):
        try:
            wheel = _built(home, options.dist.absolute() if options.dist else home / "dist")
            _editable_has_no_copy(home)
            seconds = NewUser(home, wheel).tries_it()
        except FailedError as error:
            print(f"wheel-test: {error}", file=sys.stderr)
            return 1
    say(f"From pip install to two deployments that have run: {seconds:.0f} s")
    if seconds > options.limit:
        print(f"wheel-test: that is longer than {options.limit:.0f} s", file=sys.stderr)
        return 1
    return 0


def _built(home: Path, dist: Path) -> Path:
    """Build sdist and, of it, the wheel; check what is in them, and return the wheel."""
    say("Building sdist and wheel …")
    _run([sys.executable, "-m", "build", "--outdir", str(dist), str(ROOT)], cwd=home)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    flows = {f"prefect_calendly/flows/{path.name}" for path in (ROOT / "flows").glob("*.py")}
    templates = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "prefect_calendly" / "init" / "templates").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    deployments = {f"prefect_calendly/flows/{name}" for name in ("prefect.yaml", "values.example.yaml")}
    wanted = flows | templates | deployments | {"prefect_calendly/py.typed"}
    if missing := sorted(wanted - inside):
        raise FailedError(f"not in the wheel: {', '.join(missing)}")
    if strange := sorted({name.partition("/")[0] for name in inside if not name.startswith("prefect_calendly")}):
        raise FailedError(f"besides the package, in the wheel: {', '.join(strange)}")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    documents = {f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")}
    others = {"LICENSE", "Makefile", "constraints.txt", "tests/conftest.py", "deployments/prefect.yaml"}
    if missing := sorted((documents | others) - names):
        raise FailedError(f"not in the sdist: {', '.join(missing)}")
    return wheel


def _editable_has_no_copy(home: Path) -> None:
    """An editable install knows where this folder is, and has no copy of any file of it."""
    say("Installing editable …")
    python = _environment(home / "editable")
    _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--editable", str(ROOT)], cwd=home)
    packages = next((home / "editable" / "lib").glob("python*/site-packages"))
    if (packages / "prefect_calendly").exists() or (packages / "flows").exists():
        raise FailedError("an editable install has a copy of files, which would not change with them")
    paths = [path for file in packages.glob("*prefect_calendly*.pth") for path in file.read_text().split()]
    if paths != [str(ROOT)]:
        raise FailedError(f"an editable install adds {paths} to Python's path, not {ROOT}")


class NewUser:
    """Somebody who has Python and the wheel; where they work there is nothing else of ours."""

    def __init__(self, home: Path, wheel: Path) -> None:
        self.home = home
        self.wheel = wheel
        self.bin = home / "venv" / "bin"
        self.project = home / "project"
        self.elsewhere = home / "elsewhere"
        self.api = f"http://127.0.0.1:{free_port()}/api"
        self.sandbox = f"http://127.0.0.1:{free_port()}"
        own = own_environment(
            home,
            PATH=f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            PREFECT_API_URL=self.api,
            PREFECT_SERVER_API_HOST="127.0.0.1",
            PREFECT_SERVER_API_PORT=self.api.split(":")[2].partition("/")[0],
            PREFECT_WORKER_QUERY_SECONDS="2",
            MATON_API_KEY=KEY,
            MATON_GATEWAY_URL=f"{self.sandbox}/calendly",
            MATON_CONNECTIONS_URL=self.sandbox,
        )
        hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CALENDLY_WEBHOOK_SIGNING_KEY")
        self.environment = {name: value for name, value in own.items() if name not in hidden}

    def tries_it(self) -> float:
        """Do what the README and the new project's own one say; return how many seconds it took."""
        began = time.monotonic()
        with self._step("pip install"):
            python = _environment(self.home / "venv")
            constraints = ["--constraint", str(ROOT / "constraints.txt")]
            _run([str(python), "-m", "pip", "install", "--quiet", *constraints, str(self.wheel), "pytest"], self.home)
        sandbox = ["prefect-calendly", "sandbox", "--port", self.sandbox.rpartition(":")[2]]
        with self._running("sandbox", sandbox, f"{self.sandbox}/_sandbox/stats"):
            with self._step("check"):
                self._do("prefect-calendly", "check")
            with self._step("init"):
                self._do("prefect-calendly", "init", str(self.project))
            with self._step("the project's tests"):
                self._do("pytest", "--quiet", "-p", "no:cacheprovider", cwd=self.project)
            with self._running("server", ["prefect", "server", "start"], f"{self.api}/health"):
                self._deploys_and_runs()
        return time.monotonic() - began

    def _deploys_and_runs(self) -> None:
        with self._step("block, work pool, deployments"):
            self._do("prefect", "block", "register", "-m", "prefect_calendly")
            self._do("python", "-c", _SAVE_BLOCK)
            self._do("prefect-calendly", "check", "--block", "main")
            self._do("prefect", "--no-prompt", "work-pool", "create", "calendly", "--type", "process")
            self._do("prefect", "--no-prompt", "deploy", "--all", cwd=self.project)
            self.elsewhere.mkdir()
            (self.elsewhere / "prefect.yaml").write_text(_FROM_THE_PACKAGE)
            self._do("prefect", "--no-prompt", "deploy", "--all", cwd=self.elsewhere)
        worker = ["prefect", "worker", "start", "--pool", "calendly", "--with-healthcheck"]
        port = free_port()
        self.environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(port)
        with self._running("worker", worker, f"http://127.0.0.1:{port}/health"):
            text = (self.project / "README.md").read_text()
            (shown,) = re.findall(r"^prefect deployment run '(.*)'$", text, re.MULTILINE)
            for name in (shown, "cancel-blocked-domains/from-the-package"):
                with self._step(f"a run of {name}"):
                    self._do("prefect", "deployment", "run", name)
                    until(f"{name} has run", partial(self._ended, name), 120)
        canceled = ask(f"{self.sandbox}/_sandbox/stats")["writes"]
        if canceled:
            raise FailedError(f"dry runs have changed something in the sandbox: {canceled}")

    def _ended(self, name: str) -> bool:
        """Say whether the deployment's run has ended well."""
        deployment = ask(f"{self.api}/deployments/name/{name}")
        chosen = {"deployments": {"id": {"any_": [deployment["id"]]}}}
        states = [run["state_name"] for run in ask(f"{self.api}/flow_runs/filter", chosen)]
        if states in (["Failed"], ["Crashed"]):
            raise FailedError(f"the run of {name} is {states[0]}: {tail(self.home / 'worker.log', 40)}")
        return bool(states == ["Completed"])

    @contextmanager
    def _running(self, name: str, command: Sequence[str], url: str) -> Iterator[None]:
        """Run a program until the block ends; it is ready inside, when the URL answers."""
        log = self.home / f"{name}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [str(self.bin / command[0]), *command[1:]],
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            until(f"{name} answers", lambda: process.poll() is not None or ask(url, seconds=5) is not None, 180)
            if process.poll() is not None:
                raise FailedError(f"{name} has ended: {tail(log)}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                # A Prefect worker makes a SIGINT of it, which whatever runs in the background of a script ignores.
                process.kill()
                say(f"{name} has not ended at SIGTERM and was killed; its log ends with:\n{tail(log, 15)}")

    def _do(self, program: str, *arguments: str, cwd: Path | None = None) -> str:
        folder = cwd or self.home
        # A shell sets PWD, from which prefect.yaml takes the folder of the flows.
        return _run([str(self.bin / program), *arguments], folder, {**self.environment, "PWD": str(folder)})

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        say(f"{name}: {time.monotonic() - began:.1f} s")


def _environment(folder: Path) -> Path:
    """Make an empty virtual environment; return its Python."""
    _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    return folder / "bin" / "python"


def _run(command: Sequence[str], cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run a program to its end, and return what it printed.

    Raises:
        FailedError: It ended with another status than 0.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        shown = " ".join([Path(command[0]).name, *command[1:]])
        raise FailedError(f"`{shown}` ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
