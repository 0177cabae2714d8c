"""What docker/ promises of the image and the compose file, read from the files; hadolint where it is installed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.settings import from_mapping

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=Path(sys.executable).parent)
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("callpulse:")]


def test_the_image_builds_with_older_engines() -> None:
    assert not re.search(r"^#\s*syntax=|<<[-\w'\"]|--link|--mount", DOCKERFILE, re.MULTILINE)


def test_the_image_runs_as_a_user_with_a_number() -> None:
    """Kubernetes cannot tell whether a name is root."""
    assert re.findall(r"^USER (.*)", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_cpu_is_what_is_built_unless_told_otherwise() -> None:
    stages = re.findall(r"^FROM .* AS (\S+)", DOCKERFILE, re.MULTILINE)
    assert stages[-2:] == ["gpu", "cpu"]


def test_only_what_is_needed_goes_to_the_build() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    assert rules[1] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        *("setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "LICENSE", "streams", "models")
    }


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_version(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+|cpu|gpu", tag)


def test_an_image_of_ours_is_built_once_and_never_pulled() -> None:
    """Two builds at once that give their image one name: the second fails with "already exists"."""
    built = [SERVICES[name]["image"] for name in OURS if "build" in SERVICES[name]]
    assert sorted(built) == sorted({SERVICES[name]["image"] for name in OURS})
    assert all(SERVICES[name].get("pull_policy") == "never" for name in OURS if "build" not in SERVICES[name])
    assert all("topics" in SERVICES[name]["depends_on"] for name in OURS if "build" not in SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_loopback(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_has_no_rights_and_has_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert "privileged" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", OURS)
def test_ours_cannot_write_and_are_not_root(name: str) -> None:
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["user"] == "10001:10001"


@pytest.mark.parametrize("name", OURS)
def test_the_settings_of_ours_exist(name: str) -> None:
    given = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
    settings = from_mapping({}, given | {"CALLPULSE_REPLICATION": "1"})
    known = {f"CALLPULSE_{field.upper()}" for field in type(settings).__slots__}
    assert given.keys() <= known
    assert settings.bootstrap_servers == "kafka:19092"


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_workers_mask_and_can_be_scaled(name: str) -> None:
    assert SERVICES[name]["environment"]["CALLPULSE_REDACT"] == "true"
    assert not SERVICES[name].keys() & {"container_name", "ports"}


def test_prometheus_looks_for_workers_where_they_are() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["worker"]
    assert found["port"] == from_mapping({}, {}).web_port
    assert f"EXPOSE {found['port']}" in DOCKERFILE


def test_what_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", []) if volume.startswith("./")]
    assert mounted
    assert [path for path in mounted if not (DOCKER / path).is_dir()] == []


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed")
@pytest.mark.parametrize("path", [DOCKER / "Dockerfile", *sorted((ROOT / "tests" / "docker").glob("*/Dockerfile"))], ids=str)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run([str(HADOLINT), str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
