"""What the chart takes: lint, values that are refused, what it has from elsewhere, and what it says to whoever installs it."""

import re

import pytest

from chart.helm import ran, refused
from chart.rendered import VARIANTS, of_kind, values
from chart.taken import CHART, COPIES, SCHEMA, schema_text, versioned
from streams.cli import cli


def test_what_the_chart_has_from_elsewhere_is_as_it_is_there() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "python -m tests.chart"
    assert (CHART / "Chart.yaml").read_text(encoding="utf-8") == versioned(), "python -m tests.chart"
    for copy, source in COPIES.items():
        assert copy.exists() == source.exists(), "python -m tests.chart"
        assert not source.exists() or copy.read_bytes() == source.read_bytes(), "python -m tests.chart"


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_has_nothing_to_say(variant: str) -> None:
    done = ran("lint", "--strict", CHART, "--values", values(variant))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("settings.batch_token=1", "batch_token"),
        ("settings.web_host=::", "web_host"),
        ("settings.sasl_password=x", "sasl_password"),
        ("settings.partitions=many", "partitions"),
        ("scorer.gpus=1", "gpus"),
        ("judge.gpu=true", "gpu"),
        ("image.tag=latest", "tag"),
        ("mode=both", "mode"),
        ("rules.notes\\.txt=x", "notes.txt"),
        ("scorer.replicas=0", "replicas"),
        ("judge.replicas=5", "judge.replicas: 5, but 4 have work at most"),
        ("judge.maxReplicas=5", "judge.maxReplicas: 5, but there are 4 partitions"),
        ("tls.existingSecret=x", "tls.existingSecret is set, but settings.security_protocol is PLAINTEXT"),
        ("sasl.existingSecret=x", "sasl.existingSecret is set"),
        ("settings.security_protocol=SASL_SSL", "name the Secret with the password"),
        ("tls.certKey=tls.crt", "tls.certKey and tls.keyKey go together"),
        (
            "autoscaling.enabled=true,settings.security_protocol=SASL_SSL,settings.sasl_mechanism=OAUTHBEARER",
            "KEDA cannot call settings.sasl_token_provider",
        ),
    ],
)
def test_what_does_not_fit_is_refused(given: str, said: str) -> None:
    assert said in refused("--set", given)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_notes_name_what_is_there(variant: str) -> None:
    done = ran("install", "cp", CHART, "--namespace", "calls", "--dry-run=client", "--values", values(variant))
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    stateful = {manifest["metadata"]["name"] for manifest in of_kind("StatefulSet", variant)}
    assert set(re.findall(r"statefulset/(\S+)", notes)) == stateful
    assert set(re.findall(r"(?:exec|port-forward) (\S+)-0", notes)) <= stateful
    for command in re.findall(r"-- callpulse (\w+)", notes):
        assert command in cli.commands
