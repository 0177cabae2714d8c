"""The chart's pods: locked as they should be, and told only what a worker understands."""

import re
import signal
from pathlib import Path

import click
import pytest

from chart.helm import template
from chart.rendered import VARIANTS, containers, environment, of_kind, pods, rendered, values
from streams import __version__, pages, settings, worker
from streams.cli import cli
from streams.rules import checked
from streams.settings import Settings, variable


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_restricted(variant: str) -> None:
    for _, spec in pods(variant):
        assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
        secure = spec["securityContext"]
        assert secure["runAsNonRoot"] is True
        assert (secure["runAsUser"], secure["seccompProfile"]) == (10001, {"type": "RuntimeDefault"})
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(set(volume) <= {"name", "emptyDir", "secret", "configMap"} for volume in spec["volumes"])
    for container in containers(variant):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_are_of_this_version(variant: str) -> None:
    for manifest, spec in pods(variant):
        gpu = "nvidia.com/gpu" in spec["containers"][0]["resources"]["limits"]
        assert re.fullmatch(rf"(.+/)?callpulse:{re.escape(__version__)}{'-gpu' if gpu else ''}", spec["containers"][0]["image"])
        assert gpu == (variant in ("gpu", "everything") and manifest["metadata"]["name"].endswith("scorer"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_secrets_are_only_referred_to(variant: str) -> None:
    assert not of_kind("Secret", variant)
    for container in containers(variant):
        said = [name for name in environment(container) if "PASSWORD" in name]
        assert all(name.endswith("_FILE") for name in said)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_worker_takes_what_it_is_told(variant: str) -> None:
    names = {variable(setting.name) for setting in settings.listed()} | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    for container in containers(variant):
        given = environment(container)
        assert set(given) <= names
        taken = settings.from_mapping({}, given)
        assert taken.redact
        mounted = tuple(mount["mountPath"] + "/" for mount in container["volumeMounts"])
        files = [getattr(taken, setting.name) for setting in settings.listed() if setting.name.endswith("_file")]
        assert all(file.startswith(mounted) for file in filter(None, files))
        command: click.Command = cli
        context = cli.make_context("callpulse", [*container["args"]])
        for depth, word in enumerate(container["args"], 1):
            if isinstance(command, click.Group):
                command = command.commands[word]
                context = command.make_context(word, container["args"][depth:], context)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_worker_is_asked_what_it_answers_and_given_the_time_that_it_needs(variant: str) -> None:
    answered = set(re.findall(r'@app\.page\("(/\w+)"\)', Path(pages.__file__).read_text(encoding="utf-8")))
    for manifest, spec in pods(variant):
        if manifest["kind"] == "Job":
            continue
        [container] = spec["containers"]
        probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
        assert {probe["path"] for probe in probes} <= answered
        assert {probe["port"] for probe in probes} == {container["ports"][0]["name"]}
        assert container["ports"][0]["containerPort"] == Settings().web_port
        assert settings.from_mapping({}, environment(container)).web_host == "0.0.0.0"
        assert spec["terminationGracePeriodSeconds"] > worker.STOP_S[signal.SIGTERM] + 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_outlive_restarts(variant: str) -> None:
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind("Service", variant)}
    for manifest in of_kind("StatefulSet", variant):
        spec = manifest["spec"]
        assert spec["podManagementPolicy"] == "Parallel"
        assert services[spec["serviceName"]]["selector"] == spec["selector"]["matchLabels"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        [instance] = [e for e in spec["template"]["spec"]["containers"][0]["env"] if e["name"] == variable("instance_id")]
        assert instance["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_rules_are_a_folder_and_change_without_a_restart(tmp_path: Path) -> None:
    [config] = [m for m in of_kind("ConfigMap", "everything") if m["metadata"]["name"].endswith("-rules")]
    for name, text in config["data"].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found, faults = checked(tmp_path, tuple((name, text) for name, text in sorted(config["data"].items())))
    assert found is not None
    assert (len(found.rules), faults) == (4, [])
    changed = template("--values", values("everything"), "--set-string", "rules.10-library\\.yaml=use: [long_silence]")
    assert [m["kind"] for m, before in zip(changed, rendered("everything"), strict=True) if m != before] == ["ConfigMap"]
    for manifest in of_kind("StatefulSet", "everything"):
        [container] = manifest["spec"]["template"]["spec"]["containers"]
        mounts = [mount for mount in container["volumeMounts"] if mount["name"] == "rules"]
        given = settings.from_mapping({}, environment(container))
        assert given.rules == ("" if given.device == "cuda" else mounts[0]["mountPath"])
        assert all("subPath" not in mount for mount in mounts)


def test_settings_change_with_a_restart() -> None:
    changed = template("--values", values("default"), "--set", "settings.grace_s=30")
    assert [m["kind"] for m, before in zip(changed, rendered("default"), strict=True) if m != before] == ["StatefulSet"] * 2
