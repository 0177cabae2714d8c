"""Alert rules and dashboard: what they name exists, and promtool's tests of the rules pass."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.families import FAMILIES

ROOT = Path(__file__).parents[1]
RULES = ROOT / "docker" / "prometheus" / "alerts.yaml"
GUIDE = ROOT / "docker" / "README.md"
GRAFANA = ROOT / "docker" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "callpulse.json").read_text(encoding="utf-8"))
OF_THE_PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
OF_PROMETHEUS = {"up"}
METRIC = re.compile(r"\b(?:callpulse|messaging|process)[:_][\w:]*")

groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
rules = [rule for group in groups for rule in group["rules"]]
alerts = [rule for rule in rules if "alert" in rule]
panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
queries = [target["expr"] for panel in panels for target in panel["targets"] if "expr" in target]
choices = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]


def exposed() -> set[str]:
    """The names of the time series that a worker exposes."""
    plain = {family.name for family in FAMILIES if family.kind != "histogram"}
    parts = {f"{family.name}_{end}" for family in FAMILIES if family.kind == "histogram" for end in ("bucket", "sum", "count")}
    return plain | parts | OF_THE_PROCESS


def named(expression: str) -> set[str]:
    """The metrics in an expression; what stands in parentheses behind `by` are labels."""
    without_labels = re.sub(r"\b(by|on)\s*\([^)]*\)|\{[^}]*\}", "", expression)
    return set(METRIC.findall(without_labels))


def promtool(*arguments: str | Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    promtool("check", "rules", RULES)


@pytest.mark.parametrize("tests", sorted((ROOT / "tests" / "prometheus").glob("*_test.yaml")), ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_must_and_only_then(tests: Path) -> None:
    promtool("test", "rules", tests)


OUTAGE = """
rule_files: []
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series: {series}
    promql_expr_test:
      - {{eval_time: 20h, expr: {expression}, exp_samples: [{{labels: "{{}}", value: 0}}]}}
      - {{eval_time: 1215m, expr: {expression}, exp_samples: [{{labels: "{{}}", value: 2}}]}}
"""


def test_an_outage_that_turns_all_calls_is_one_number(tmp_path: Path) -> None:
    """A tenth of the turns is negative for 20 hours, then nearly all, in two queues of three."""
    usual, turned = ("0+1x1220", "0+9x1220"), ("0+1x1200 1209+9x20", "0+9x1200 10801+1x20")
    queues = {"insurance": usual, "cards": turned, "loans": turned}
    counted = {
        (label, queue): each
        for queue, said in queues.items()
        for label, each in zip(("negative", "neutral"), said, strict=True)
    }
    series = [
        {"series": f'callpulse_turns_total{{queue="{queue}", label="{label}"}}', "values": values}
        for (label, queue), values in counted.items()
    ]
    [panel] = [panel for panel in panels if panel["title"] == "Queues that turned at once"]
    expression = re.sub(r"\$\w+", ".*", panel["targets"][0]["expr"])
    (tmp_path / "outage.yaml").write_text(OUTAGE.format(series=json.dumps(series), expression=json.dumps(expression)))
    promtool("test", "rules", tmp_path / "outage.yaml")


def test_every_alert_is_tested_for_firing_and_for_not_firing() -> None:
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "tests" / "prometheus").glob("*_test.yaml")]
    cases = [case for file in files for test in file["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    assert fires == {alert["alert"] for alert in alerts}
    # the others are told apart from a series beside them, in the same test, on which they must not fire
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fires - quiet <= {"CallpulseRecordsLost"}


def test_every_metric_of_the_rules_is_exposed_or_recorded_before() -> None:
    known = exposed()
    for rule in rules:
        assert named(rule["expr"]) <= known, rule
        known |= {rule["record"]} if "record" in rule else set()


@pytest.mark.parametrize("expression", [*queries, *choices])
def test_every_metric_of_the_dashboard_is_exposed(expression: str) -> None:
    assert named(expression)
    assert named(expression) <= exposed()


def test_every_metric_that_is_exposed_is_shown() -> None:
    shown = {name for query in queries for name in named(query)}
    ends = "_bucket", "_sum", "_count"
    assert {family.name for family in FAMILIES} <= shown | {name.removesuffix(end) for name in shown for end in ends}


@pytest.mark.parametrize("alert", alerts, ids=lambda alert: alert["alert"])
def test_every_alert_says_what_it_is_and_has_a_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert ROOT / page == GUIDE
    assert anchor in anchors(GUIDE.read_text(encoding="utf-8"))
    assert anchor == alert["alert"].lower()


def anchors(page: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_dashboard_is_what_its_source_makes(tmp_path: Path) -> None:
    shutil.copytree(GRAFANA, tmp_path / "grafana")
    subprocess.run([sys.executable, tmp_path / "grafana" / "dashboard.py"], check=True, timeout=60)
    assert json.loads((tmp_path / "grafana" / "dashboards" / "callpulse.json").read_text(encoding="utf-8")) == DASHBOARD


def test_the_dashboard_can_be_imported() -> None:
    ids = Counter(panel["id"] for panel in DASHBOARD["panels"])
    assert max(ids.values()) == 1
    assert len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] in ("${datasource}", "__expr__") for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"]


def test_all_jobs_are_those_of_callpulse() -> None:
    """Grafana makes `a|b` of those it has found, unless told what to take for all."""
    choices = {v["name"]: v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"}
    assert [name for name, choice in choices.items() if "allValue" not in choice] == ["job"]
    others = {name for name in OF_THE_PROCESS for query in queries if name in query}
    assert others
    assert all('job=~"$job"' in query for query in queries if named(query) & others)


def test_the_panels_of_the_dashboard_do_not_lie_on_each_other() -> None:
    covered = Counter(place for panel in DASHBOARD["panels"] for place in places(**panel["gridPos"]))
    assert max(covered.values()) == 1
    assert max(x for x, _ in covered) < 24


def places(x: int, y: int, w: int, h: int) -> set[tuple[int, int]]:
    return {(x + i, y + j) for i in range(w) for j in range(h)}


def test_every_variable_of_a_query_is_known() -> None:
    known = {variable["name"] for variable in DASHBOARD["templating"]["list"]} | {"__rate_interval", "__range"}
    text = json.dumps([panel["targets"] for panel in panels])
    used = set(re.findall(r"\$\{?([a-z_]\w*)", text))
    assert used <= known
    assert known - used <= {"datasource"}
