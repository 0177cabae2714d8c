"""Makes Grafana's dashboard of callpulse.yaml, which says what is shown; run without arguments."""

import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
SOURCE, MADE = FOLDER / "callpulse.yaml", FOLDER / "dashboards" / "callpulse.json"
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
EXPRESSION = {"type": "__expr__", "uid": "__expr__"}
WIDTH = 24


def dashboard(source: dict[str, Any]) -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "uid": source["uid"],
        "title": source["title"],
        "tags": ["callpulse"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": [_datasource(), *_choices(source["choices"]), *_prices(source["prices"])]},
        "panels": list(_panels(source)),
    }


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {},
    }


def _choices(choices: dict[str, str]) -> Iterator[dict[str, Any]]:
    for name, metric in choices.items():
        query = f"label_values({metric}, {name})"
        # process_* is exposed by other programs, too: all jobs are those that have the metric, not any job there is
        every = {} if name == "job" else {"allValue": ".*"}
        yield {
            "name": name,
            "type": "query",
            "datasource": PROMETHEUS,
            "query": {"query": query, "refId": name},
            "definition": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            **every,
            "current": {"text": "All", "value": "$__all"},
        }


def _prices(prices: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    for name, (label, price) in prices.items():
        current = {"text": price, "value": price}
        yield {"name": name, "label": label, "type": "textbox", "query": price, "current": current, "options": [current]}


def _panels(source: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rows one below the other; the panels of a row from left to right, as many as fit."""
    number, y = 0, 0
    for row in source["rows"]:
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row["title"],
            "collapsed": False,
            "panels": [],
            "gridPos": _grid(0, y, WIDTH, 1),
        }
        x, y, tallest = 0, y + 1, 0
        for panel in row["panels"]:
            number += 1
            width, height = panel["look"]["width"], panel["look"].get("height", 8)
            if x + width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            yield {"id": number, "gridPos": _grid(x, y, width, height), **_panel(panel, source["selectors"])}
            x, tallest = x + width, max(tallest, height)
        y += tallest


def _grid(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: dict[str, Any], selectors: dict[str, str]) -> dict[str, Any]:
    look = panel["look"]
    return {
        "type": look["kind"],
        "title": panel["title"],
        "description": panel["text"],
        "datasource": PROMETHEUS,
        "targets": list(_targets(panel, selectors)),
        "fieldConfig": {"defaults": _field(look), "overrides": []},
        "options": _options(look),
        **({"transformations": [_labels_only()]} if look["kind"] == "table" else {}),
    }


def _targets(panel: dict[str, Any], selectors: dict[str, str]) -> Iterator[dict[str, Any]]:
    math, at_once = panel.get("math"), panel["look"]["kind"] in ("stat", "table")
    for ref, query in zip(string.ascii_uppercase, panel["queries"], strict=False):
        kind = {"instant": True, "range": False} if at_once else {"range": True}
        shape = {"format": "table"} if panel["look"]["kind"] == "table" else {}
        yield {
            "refId": ref,
            "datasource": PROMETHEUS,
            "expr": _expression(query["expr"], selectors),
            "legendFormat": query.get("legend", ""),
            "hide": math is not None,
            **kind,
            **shape,
        }
    if math is not None:
        yield {"refId": "Z", "datasource": EXPRESSION, "type": "math", "expression": math}


def _expression(text: str, selectors: dict[str, str]) -> str:
    for name, selector in selectors.items():
        text = text.replace(f"{{{name}}}", f"{{{selector}}}")
    return text


def _field(look: dict[str, Any]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    yellow, red = look.get("limits", (None, None))
    if yellow is not None:
        steps += [{"color": "yellow", "value": yellow}] * (yellow != red) + [{"color": "red", "value": red}]
    field: dict[str, Any] = {"unit": look["unit"], "thresholds": {"mode": "absolute", "steps": steps}}
    if look["kind"] == "timeseries":
        mode = {"mode": "normal" if look.get("stacked") else "none"}
        drawn = {"stacking": mode, "fillOpacity": 30 if look.get("stacked") else 0, "showPoints": "never"}
        field |= {"min": 0, "custom": drawn | {"thresholdsStyle": {"mode": "line" if yellow is not None else "off"}}}
    if look["kind"] in ("stat", "status-history"):
        field["color"] = {"mode": "thresholds"}
    return field


def _options(look: dict[str, Any]) -> dict[str, Any]:
    if look["kind"] == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value" if "limits" not in look else "background"}
    if look["kind"] == "timeseries":
        return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return {}


def _labels_only() -> dict[str, Any]:
    return {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": {"Value": "workers"}}}


if __name__ == "__main__":
    made = dashboard(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))
    MADE.write_text(json.dumps(made, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
