"""What is valid in a cluster: by Kubernetes's own schemas, strictly (no field that they do not know), or those of crds.yaml."""

import json
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

CRDS = yaml.safe_load((Path(__file__).parent / "crds.yaml").read_text(encoding="utf-8"))
VERSIONS = ("1.27", "1.34", "1.37")  # the oldest that Chart.yaml allows, to the newest whose schemas there are


@lru_cache
def _folder(version: str) -> Path:
    """kubernetes-validate's own function reads all definitions anew for each manifest, which takes 80 ms."""
    package = find_spec("kubernetes_validate")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"


@lru_cache
def _definitions(version: str) -> Registry[Any]:
    return Resource.from_contents(json.loads((_folder(version) / "_definitions.json").read_text())) @ Registry()


@lru_cache
def _kubernetes(version: str, kind: str, api: str) -> Draft202012Validator:
    group, _, name = api.rpartition("/")
    file = "-".join(filter(None, (kind.lower(), group.partition(".")[0], name)))
    schema = json.loads((_folder(version) / f"{file}.json").read_text())
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


def validate(manifest: dict[str, Any]) -> int:
    """Raises ValidationError; the number of schemas that it is valid by."""
    if manifest["kind"] in CRDS:
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        Draft202012Validator(CRDS[manifest["kind"]]).validate(manifest["spec"])
        return 1
    for version in VERSIONS:
        _kubernetes(version, manifest["kind"], manifest["apiVersion"]).validate(manifest)
    return len(VERSIONS)
