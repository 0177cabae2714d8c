"""What the chart has from elsewhere: the settings that its values may hold, the version, the alert rules, the dashboard.
`python -m tests.chart` writes them anew; a test compares."""

import json
import re
from dataclasses import Field
from pathlib import Path
from typing import Any

from streams import __version__, settings

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker" / "chart"
SCHEMA = CHART / "values.schema.json"
COPIES = {
    CHART / "files" / "alerts.yaml": ROOT / "docker" / "prometheus" / "alerts.yaml",
    CHART / "files" / "callpulse.json": ROOT / "docker" / "grafana" / "dashboards" / "callpulse.json",
}
"""Helm reads nothing from outside of a chart."""
DERIVED = frozenset(
    {"instance_id", "web_host", "web_port", "rules", "traces"} | {s for s in settings.SECURITY if s.endswith("_file")}
)
"""The settings that the chart sets itself, from other values."""
REQUIRED = ("bootstrap_servers", "prefix", "group", "partitions")
TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _property(setting: Field[Any]) -> dict[str, Any]:
    return {"type": TYPES[type(setting.default)], "description": setting.metadata["help"]}


def settings_schema() -> dict[str, Any]:
    """The schema of the values under `settings`."""
    allowed = {setting.name: _property(setting) for setting in settings.listed() if setting.name not in DERIVED}
    allowed["partitions"] |= {"minimum": 1}
    return {"type": "object", "additionalProperties": False, "required": list(REQUIRED), "properties": allowed}


def schema_text() -> str:
    """values.schema.json as it should be."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["definitions"]["settings"] = settings_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def versioned() -> str:
    """Chart.yaml as it should be."""
    text = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    return re.sub(r'(?m)^(version|appVersion): ("?)[^"\n]*("?)$', rf"\1: \g<2>{__version__}\3", text)


def write() -> None:
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    (CHART / "Chart.yaml").write_text(versioned(), encoding="utf-8")
    for copy, source in COPIES.items():
        if source.exists():
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(source.read_bytes())
