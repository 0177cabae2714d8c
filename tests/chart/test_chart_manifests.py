"""What the chart makes beside the pods: valid, and fitting each other."""

import json
import re

import pytest
from jsonschema import ValidationError

from chart.helm import template
from chart.rendered import VARIANTS, environment, of_kind, rendered, roles, values
from chart.schemas import CRDS, validate
from chart.taken import CHART
from streams import settings
from streams.settings import variable


@pytest.mark.parametrize("variant", VARIANTS)
def test_manifests_are_valid(variant: str) -> None:
    for manifest in rendered(variant):
        assert validate(manifest)
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in rendered(variant)]
    assert len(set(names)) == len(names)


def test_a_field_that_is_unknown_or_of_another_type_is_found() -> None:
    for change in ({"replica": 1}, {"replicas": "1"}):
        manifest = of_kind("StatefulSet", "default")[0]
        with pytest.raises(ValidationError):
            validate(manifest | {"spec": manifest["spec"] | change})
    scaled = of_kind("ScaledObject", "keda")[0]
    with pytest.raises(ValidationError):
        validate(scaled | {"spec": scaled["spec"] | {"maxReplicas": 4}})


def test_how_it_scales_is_valid_for_the_autoscaler_that_keda_makes() -> None:
    spec = of_kind("ScaledObject", "keda")[0]["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    made = {"scaleTargetRef": spec["scaleTargetRef"], "maxReplicas": spec["maxReplicaCount"], "behavior": behavior}
    autoscaler = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}, "spec": made}
    assert validate(autoscaler)


def test_the_variants_have_everything_that_there_is() -> None:
    kinds, fewest = ({manifest["kind"] for manifest in rendered(variant)} for variant in ("everything", "minimal"))
    optional = {kind for kind, name in (("PrometheusRule", "alerts.yaml"),) if not (CHART / "files" / name).exists()}
    assert kinds >= {*CRDS, "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy", "Job"} - optional
    assert fewest == {"StatefulSet", "Service", "PodDisruptionBudget", "ServiceAccount"}
    assert [roles(variant) for variant in ("minimal", "default")] == [["worker"], ["judge", "scorer"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_kind_of_pod_may_be_disrupted_one_at_a_time(variant: str) -> None:
    budgets = {budget["metadata"]["name"]: budget["spec"] for budget in of_kind("PodDisruptionBudget", variant)}
    for manifest in of_kind("StatefulSet", variant):
        budget = budgets.pop(manifest["metadata"]["name"])
        assert (budget["maxUnavailable"], budget["selector"]) == (1, manifest["spec"]["selector"])
    assert not budgets


@pytest.mark.parametrize("variant", ["keda", "everything"])
def test_it_scales_by_what_waits_and_not_beyond_what_has_work(variant: str) -> None:
    most = {"keda": {"scorer": 16, "judge": 6}, "everything": {"scorer": 24, "judge": 24}}[variant]
    targets = {manifest["metadata"]["name"]: manifest for manifest in of_kind("StatefulSet", variant)}
    assert {name.rpartition("-")[2] for name in targets} == set(most)
    for scaled in of_kind("ScaledObject", variant):
        spec = scaled["spec"]
        target = targets.pop(spec["scaleTargetRef"]["name"])
        assert "replicas" not in target["spec"]  # an upgrade would undo what was scaled
        assert spec["maxReplicaCount"] == most[target["metadata"]["name"].rpartition("-")[2]]
        [trigger] = spec["triggers"]
        [container] = target["spec"]["template"]["spec"]["containers"]
        taken, only = settings.from_mapping({}, environment(container)), container["args"][-1]
        asked = trigger["metadata"]
        assert asked["consumerGroup"] == f"{taken.group}-{only}"
        assert asked["topic"] == taken.topic({"score": "segments", "judge": "sentiment"}[only])
        assert (asked["bootstrapServers"], asked["allowIdleConsumers"]) == (taken.bootstrap_servers, "false")
    assert not targets


def test_one_that_does_both_scales_by_both() -> None:
    [scaled] = [m for m in template("--set", "mode=combined,autoscaling.enabled=true") if m["kind"] == "ScaledObject"]
    topics = {trigger["metadata"]["topic"] for trigger in scaled["spec"]["triggers"]}
    assert (topics, scaled["spec"]["maxReplicaCount"]) == ({"calls.segments", "calls.sentiment"}, 4)


def test_keda_is_given_servers_without_spaces() -> None:
    rendered = template("--values", values("split"), "--set", "autoscaling.enabled=true")
    servers = {m["spec"]["triggers"][0]["metadata"]["bootstrapServers"] for m in rendered if m["kind"] == "ScaledObject"}
    assert servers == {"kafka-0.kafka:9092,kafka-1.kafka:9092,kafka-2.kafka:9094"}


def test_keda_connects_as_the_workers_do() -> None:
    rendered = template("--values", values("tls-sasl"), "--set", "autoscaling.enabled=true")
    [asked] = [m["spec"] for m in rendered if m["kind"] == "TriggerAuthentication"]
    assert {(e["parameter"], e["name"]) for e in asked["secretTargetRef"]} == {
        ("password", "callpulse-kafka-user"),
        *((name, "kafka-cluster-ca") for name in ("ca", "cert", "key", "keyPassword")),
    }
    assert [e["name"] for e in asked["env"]] == [variable("sasl_username")]
    for scaled in (m["spec"] for m in rendered if m["kind"] == "ScaledObject"):
        [trigger] = scaled["triggers"]
        assert trigger["metadata"] | {"tls": "enable", "sasl": "scram_sha512"} == trigger["metadata"]
        assert trigger["authenticationRef"]["name"] == "cp-callpulse-kafka"


@pytest.mark.parametrize(
    ("variant", "ports"), [("default", {9092}), ("split", {9092, 9094}), ("everything", {9093, 9094, 4318})]
)
def test_only_the_monitoring_comes_in_and_only_kafka_is_reached(variant: str, ports: set[int]) -> None:
    for policy in of_kind("NetworkPolicy", variant):
        spec = policy["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
        assert out == ports | {53}
        for rule in spec.get("ingress", []):
            assert [list(peer) for peer in rule["from"]] == [["namespaceSelector", "podSelector"]]
            assert [port["port"] for port in rule["ports"]] == ["http"]


def test_topics_are_created_before_the_workers_come() -> None:
    [job] = of_kind("Job", "everything")
    hooks = [job, *(m for m in of_kind("NetworkPolicy", "everything") if m["metadata"]["name"].endswith("-topics"))]
    weights = [int(m["metadata"]["annotations"].get("helm.sh/hook-weight", 0)) for m in hooks]
    assert weights == [0, -5]  # the policy first: a namespace may let nothing out by default
    assert {m["metadata"]["annotations"]["helm.sh/hook"] for m in hooks} == {"pre-install,pre-upgrade"}


def test_prometheus_has_the_pods_under_a_job_that_the_alert_rules_are_of() -> None:
    [monitor] = [m["spec"] for m in of_kind("ServiceMonitor", "everything")]
    services = of_kind("Service", "everything")
    assert len(services) == 2
    for service in services:
        labels = service["metadata"]["labels"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert re.fullmatch(".*callpulse.*", labels[monitor["jobLabel"]])
        assert [port["name"] for port in service["spec"]["ports"]] == [monitor["endpoints"][0]["port"]]


def test_the_dashboard_is_found_by_grafanas_sidecar() -> None:
    labelled = [m for m in of_kind("ConfigMap", "everything") if m["metadata"]["labels"].get("grafana_dashboard") == "1"]
    shipped = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "files").glob("*.json")}
    assert [m["data"].keys() for m in labelled] == ([shipped.keys()] if shipped else [])
    for config in labelled:
        assert all(json.loads(text) == json.loads(shipped[name]) for name, text in config["data"].items())
