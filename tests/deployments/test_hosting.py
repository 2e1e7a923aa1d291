"""The files for running it for real: Prefect ignores a misspelt setting, so nothing else would find it."""

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values
from prefect.settings import Settings, get_current_settings
from pydantic import BaseModel

import prefect_calendly
from deployments.own_server import server_settings
from prefect_calendly.webhooks.__main__ import main as receiver_main
from tests import postgres
from tests.endurance import scale

ROOT = Path(__file__).parent.parent.parent
HERE = ROOT / "deployments"
COMPOSE = yaml.safe_load((HERE / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNITS = {path.name: path.read_text() for path in sorted((HERE / "systemd").glob("*.service"))}
COMMON = (HERE / "systemd" / "prefect-calendly-.service.d" / "common.conf").read_text()
DOCKERFILE = (HERE / "Dockerfile").read_text()
README = (HERE / "README.md").read_text()

SERVER, CLIENT = ("migrate", "api", "services"), ("deploy", "worker", "receiver")
# What API and services must agree about; see Prefect's settings, and prefect-redis' for the one of Redis.
NEEDED = {
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START",
    "PREFECT_SERVER_EVENTS_MESSAGING_BROKER",
    "PREFECT_SERVER_EVENTS_MESSAGING_CACHE",
    "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
    "PREFECT_REDIS_MESSAGING_URL",
    "PREFECT_SERVER_DOCKET_URL",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE",
    "PREFECT_SERVER_ENCRYPTION_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS",
    "PREFECT_SERVER_UI_API_URL",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED",
}
# Read past Prefect's settings: from the environment, and by prefect-redis.
NO_SETTINGS = {"PREFECT_SERVER_ENCRYPTION_KEY", "PREFECT_REDIS_MESSAGING_URL"}


def names(env_file: Path) -> set[str]:
    return set(dotenv_values(env_file))


def settings_of(model: type[BaseModel]) -> set[str]:
    """The environment variables that Prefect reads."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= settings_of(kind)
            continue
        alias: Any = field.validation_alias
        choices = getattr(alias, "choices", [alias] if alias else [])
        prefix = str(model.model_config.get("env_prefix", ""))
        found |= {str(choice).upper() for choice in choices} | {f"{prefix}{name}".upper()}
    return found


def environment(service: str) -> set[str]:
    """The variables that a service of the compose file gets."""
    files = SERVICES[service].get("env_file", [])
    return set(SERVICES[service].get("environment", {})).union(*(names(HERE / file) for file in files))


def test_every_setting_is_one_that_prefect_reads() -> None:
    given = {name for service in (*SERVER, *CLIENT) for name in environment(service)}
    given |= {name for file in HERE.glob("systemd/*.env.example") for name in names(file)}
    given |= set(re.findall(r"\bPREFECT_\w+(?==)", DOCKERFILE + COMMON)) | set(server_settings(4200, "secret"))
    assert len(given) > 20
    known = settings_of(Settings) | NO_SETTINGS
    assert "PREFECT_HOME" in known
    assert get_current_settings().home  # the model that was walked through is the one in use
    assert {name for name in given if name.startswith("PREFECT_")} <= known


def test_api_and_services_have_every_setting_that_they_must_agree_about() -> None:
    for service in SERVER:
        assert environment(service) >= NEEDED, service
    assert names(HERE / "server.env") | names(HERE / "systemd" / "server.env.example") >= NEEDED
    for unit in ("migrate", "api", "services"):
        text = UNITS[f"prefect-calendly-{unit}.service"]
        assert "EnvironmentFile=/opt/prefect-calendly/deployments/server.env" in text
        assert "EnvironmentFile=/etc/prefect-calendly/server.env" in text


def test_only_the_ui_of_the_server_itself_is_answered() -> None:
    unit = dotenv_values(HERE / "systemd" / "server.env.example")
    compose = {name: re.sub(r":\?[^}]*", "", value) for name, value in SERVICES["api"]["environment"].items()}
    for settings, address in ((unit, unit["PREFECT_UI_URL"]), (compose, "${PUBLIC_URL}")):
        assert settings["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == address
        assert settings["PREFECT_SERVER_UI_API_URL"] == f"{address}/api"


def test_what_runs_flows_gets_neither_the_database_nor_the_encryption_key() -> None:
    for service in CLIENT:
        assert not {name for name in environment(service) if name.startswith(("PREFECT_SERVER_", "PREFECT_REDIS_"))}
        assert "networks" not in SERVICES[service]  # the default one, where no database is
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["data"]
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert not {name for name in names(HERE / "systemd" / "client.env.example") if "_SERVER_" in name}
    for unit in ("deploy", "worker@", "receiver"):
        assert "server.env" not in UNITS[f"prefect-calendly-{unit}.service"]


def test_no_secret_is_written_down_and_each_one_that_is_needed_is_asked_for() -> None:
    text = (HERE / "compose.yaml").read_text()
    example = dotenv_values(HERE / "env.example")
    assert set(re.findall(r"\$\{(\w+)", text)) == set(example)
    secrets = {name for name in example if re.search("PASSWORD|KEY|AUTH", name)}
    assert len(secrets) == 3
    assert not any(example[name] for name in secrets)
    assert {name for name in example if f"${{{name}:?" in text} == secrets | {"PUBLIC_URL"}
    assert not re.search(r"(?i)key|secret|password|token|auth", DOCKERFILE)
    for name in (".dockerignore", ".gitignore"):
        assert {"deployments/.env", "deployments/values.yaml"} <= set((ROOT / name).read_text().splitlines())


def test_only_what_the_image_needs_is_sent_to_the_engine() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for word in line.split()
    ]
    assert copied
    needed = {name.partition("/")[0] for name in copied}
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == needed
    assert all((ROOT / name).exists() for name in copied)


def test_versions_are_pinned_and_the_image_is_of_this_release() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    images = [service["image"] for service in SERVICES.values()]
    for image in (*bases, *images):
        assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)*$", image), image
    assert len(set(bases)) == 1
    ours = f"prefect-calendly:{prefect_calendly.__version__}"
    assert {SERVICES[name]["image"] for name in (*SERVER, *CLIENT)} == {ours}
    assert f"--tag {ours}" in DOCKERFILE
    assert "--constraint constraints.txt" in DOCKERFILE


def test_the_containers_may_do_little() -> None:
    assert DOCKERFILE.rstrip().endswith("USER prefect")
    for name in (*SERVER, *CLIENT):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["127.0.0.1:${PORT:-4200}:4200"],
        "receiver": ["127.0.0.1:${RECEIVER_PORT:-8765}:8765"],
    }


def test_each_waits_for_what_it_needs_and_is_watched() -> None:
    def waits_for(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in SERVICES[name].get("depends_on", {}).items()}

    done, healthy = "service_completed_successfully", "service_healthy"
    assert waits_for("migrate") == {"postgres": healthy}
    assert waits_for("api") == waits_for("services") == {"migrate": done, "postgres": healthy, "redis": healthy}
    assert waits_for("deploy") == waits_for("receiver") == {"api": healthy}
    assert waits_for("worker") == {"api": healthy, "deploy": done}
    for name, service in SERVICES.items():
        once = name in ("migrate", "deploy")
        assert service["restart"].startswith("on-failure" if once else "unless-stopped"), name
        assert ("healthcheck" in service) is not once, name


def commands(unit: str) -> list[list[str]]:
    lines = re.findall(r"^ExecStart=(.+)$", UNITS[f"prefect-calendly-{unit}.service"], re.MULTILINE)
    return [line.replace("/opt/prefect-calendly/.venv/bin/", "").replace("/bin/sh", "sh").split() for line in lines]


def test_units_and_containers_run_the_same_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (*SERVER, "deploy"):
        assert commands(name) == [SERVICES[name]["command"]], name
    (worker,) = commands("worker@")
    own = {"--name", "%l-%i"}
    in_container = [word for word in SERVICES["worker"]["command"] if word != "--with-healthcheck"]
    assert [word for word in worker if word not in own] == in_container
    (receiver,) = commands("receiver")
    assert [word for word in receiver if word.startswith("-")] == [
        word for word in SERVICES["receiver"]["command"] if word.startswith("-")
    ]
    with pytest.raises(SystemExit):
        receiver_main(["--help"])
    known = capsys.readouterr().out
    assert not [word for word in receiver if word.startswith("--") and word not in known]
    assert SERVICES["deploy"]["command"] == ["sh", "deployments/deploy.sh"]
    for line in ("python -m deployments.check --server", "--all", "python -m deployments.automations"):
        assert line in (HERE / "deploy.sh").read_text()


def test_units_are_as_systemd_reads_them() -> None:
    directives: dict[str, set[str]] = {}
    for name, text in (*UNITS.items(), ("common.conf", COMMON)):
        unit = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(text)
        assert set(unit.sections()) <= {"Unit", "Service", "Install"}, name
        directives[name] = {key for section in unit.sections() for key in unit[section]}
        ours = set(re.findall(r"prefect-calendly[\w@-]*\.(?:service|target)", text))
        assert ours <= {*UNITS, "prefect-calendly.target"} | {"prefect-calendly-worker@1.service"}, name
    assert directives["common.conf"] >= {"User", "NoNewPrivileges", "ProtectSystem", "SystemCallFilter", "PrivateTmp"}
    for name in ("api", "services", "worker@", "receiver"):
        assert "Restart" in directives[f"prefect-calendly-{name}.service"]
    for name in ("api", "services"):
        assert "Requires=prefect-calendly-migrate.service" in UNITS[f"prefect-calendly-{name}.service"]


def test_the_page_lists_every_deployment_and_which_of_them_write() -> None:
    deployments = yaml.safe_load((HERE / "prefect.yaml").read_text())["deployments"]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]+ \| ([^|]+) \|$", README, re.MULTILINE))
    assert list(rows) == [deployment["name"] for deployment in deployments]
    writing = [deployment["name"] for deployment in deployments if "writes" in deployment["tags"]]
    assert [name for name, what in rows.items() if what.startswith("**writes**")] == writing
    assert set(scale.EXPECTED) <= set(rows)


def test_the_page_names_only_what_is_there() -> None:
    paths = set(re.findall(r"\bdeployments/[\w./@*-]*[\w*]", README)) - {"deployments/.env", "deployments/values.yaml"}
    assert len(paths) > 5
    assert not [path for path in paths if not list(ROOT.glob(path))]
    modules = set(re.findall(r"-m deployments\.(\w+)", README))
    assert not [name for name in modules if not list(HERE.glob(f"{name}.py")) + list(HERE.glob(f"{name}/__main__.py"))]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE)) <= targets
    for service in re.findall(r"(?:run --rm|exec -T) (\w+)", README):
        assert service in SERVICES


@pytest.mark.parametrize("missing", ["PostgreSQL's initdb", "redis-server"])
def test_the_scale_test_says_what_is_to_be_installed(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    debian = tmp_path / "15" / "bin"
    debian.mkdir(parents=True)
    if missing == "redis-server":
        (debian / "initdb").touch()
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    monkeypatch.setattr("sys.argv", ["scale-test"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scale.main() == 1
    package = missing if missing == "redis-server" else "postgresql"
    assert capsys.readouterr().err == f"scale-test: {missing} is missing: apt-get install {package}, then again\n"
