"""The manifests of the variants in docker/chart/ci, and what the tests ask of them."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from chart.helm import template
from chart.taken import CHART

VARIANTS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
Manifest = dict[str, Any]


def values(variant: str) -> Path:
    return CHART / "ci" / f"{variant}.yaml"


@lru_cache
def rendered(variant: str) -> tuple[Manifest, ...]:
    return tuple(template("--values", values(variant)))


def of_kind(kind: str, variant: str) -> list[Manifest]:
    return [manifest for manifest in rendered(variant) if manifest["kind"] == kind]


def pods(variant: str) -> Iterator[tuple[Manifest, Manifest]]:
    """Whatever makes pods, and the pods' spec."""
    for manifest in rendered(variant):
        if manifest["kind"] in ("StatefulSet", "Job"):
            yield manifest, manifest["spec"]["template"]["spec"]


def containers(variant: str) -> Iterator[Manifest]:
    for _, spec in pods(variant):
        assert "initContainers" not in spec
        yield from spec["containers"]


def environment(container: Manifest) -> dict[str, str]:
    """Its variables, with examples where the kubelet fills them in."""
    filled = {"metadata.name": "cp-callpulse-scorer-0", "requests.cpu": "2"}
    given = {}
    for entry in container["env"]:
        source = entry.get("valueFrom", {})
        place = source.get("fieldRef", {}).get("fieldPath") or source.get("resourceFieldRef", {}).get("resource")
        given[entry["name"]] = filled[place] if source else entry["value"]
    assert len(given) == len(container["env"]), "a variable is given twice"
    return given


def roles(variant: str) -> list[str]:
    return [manifest["metadata"]["labels"]["app.kubernetes.io/component"] for manifest in of_kind("StatefulSet", variant)]
