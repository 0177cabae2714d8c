"""A live Prometheus scrapes a live worker: every query of the dashboard has data, and the rules are loaded.

`pytest -s` prints the panels with their values.
"""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.settings import Settings

from .apache import free_ports
from .conftest import Cluster
from .messages import MOODS, Sent, now_ms
from .running import Topics, laid_out, own, running, until

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD = json.loads((DOCKER / "grafana" / "dashboards" / "callpulse.json").read_text(encoding="utf-8"))
CHOSEN = {"__rate_interval": "10s", "__range": "1m", "job": ".*", "instance": ".*", "queue": ".*"}
CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: callpulse, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""
Row = tuple[str, str, float]
"""A panel's title, the legend, and the value."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    port: int

    def ask(self, page: str, **asked: str) -> Any:
        """Raises OSError while it does not answer, and for a query that it does not take."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/{page}?{urllib.parse.urlencode(asked)}", timeout=10
        ) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        found = self.ask("api/v1/query", query=chosen(expression))["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def answers(self) -> bool:
        try:
            return bool(self.query("vector(1)"))
        except OSError:
            return False


@contextmanager
def scraping(settings: Settings, folder: Path) -> Iterator[Prometheus]:
    """Prometheus, which looks at the worker every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus has it)")
    [port] = free_ports(1)
    rules = DOCKER / "prometheus" / "alerts.yaml"
    (folder / "prometheus.yml").write_text(CONFIGURATION.format(rules=rules, port=settings.web_port))
    data = f"--storage.tsdb.path={folder / 'data'}"
    arguments = [f"--config.file={folder / 'prometheus.yml'}", f"--web.listen-address=127.0.0.1:{port}", data]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        prometheus = Prometheus(port)
        until(prometheus.answers, lambda: (folder / "prometheus.log").read_text())
        yield prometheus
    finally:
        process.terminate()
        process.wait()


@contextmanager
def talking(topics: Topics) -> Iterator[None]:
    """Calls of two queues, one a second each, until told to stop: what is counted must go on while Prometheus looks."""
    over = threading.Event()

    def talk() -> None:
        for number in range(1000):
            topics.send([message for queue in ("cards", "loans") for message in spoken(queue, number)])
            if over.wait(1):
                return

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def spoken(queue: str, number: int) -> Iterator[Sent]:
    """A call in which a customer of the cards gets ever angrier, and another's does not; with something that is rejected."""
    call_id, now = f"{queue}-{number}", now_ms()
    for n in range(6):
        said = MOODS[2] if queue == "cards" else MOODS[n % len(MOODS)]
        said = f"{said} {number // 2}"  # every other call is remembered
        segment = {
            "call_id": call_id,
            "segment_id": f"s{n}",
            "speaker": "customer",
            "text": said,
            "attributes": {"queue": queue},
        }
        yield call_id.encode(), json.dumps(segment | {"start_ms": n * 10_000, "end_ms": n * 10_000 + 4_000}).encode(), now + n
    yield call_id.encode(), b"no JSON", now + 6
    if number % 2:
        yield call_id.encode(), json.dumps({"type": "end", "call_id": call_id}).encode(), now + 7


def chosen(expression: str) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda name: CHOSEN[name[1]], expression)


def shown(prometheus: Prometheus) -> Iterator[Row]:
    """What every panel shows; a query without data gives no row."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            if "expr" in target:
                for labels, value in prometheus.query(target["expr"]):
                    yield panel["title"], legend(target["legendFormat"], labels), value


def legend(shape: str, labels: dict[str, str]) -> str:
    text = re.sub(r"\{\{(\w+)\}\}", lambda name: labels.get(name[1], ""), shape)
    return text or ", ".join(labels.values())


def without_data(prometheus: Prometheus) -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ()) if "expr" in target]
    listed = [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    metrics = [re.sub(r"label_values\((.+), (\w+)\)", r"count by (\2) (\1)", definition) for definition in listed]
    return [query for query in queries + metrics if not prometheus.query(query)]


def price(rows: list[Row]) -> float:
    """As Grafana reckons it, of what the panel's queries give and the prices that stand in the boxes."""
    prices = {v["name"]: v["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "textbox"}
    [panel] = [panel for panel in DASHBOARD["panels"] if "Price" in panel["title"]]
    given = {
        target["refId"]: value for target, (title, _, value) in zip(panel["targets"], of(rows, panel["title"]), strict=False)
    }
    [formula] = [target["expression"] for target in panel["targets"] if "expression" in target]
    terms = [[float(prices.get(name) or given[name]) for name in re.findall(r"\w+", term)] for term in formula.split("+")]
    return sum(a * b for a, b in terms)


def of(rows: list[Row], title: str) -> list[Row]:
    return [row for row in rows if row[0] == title]


def values(rows: list[Row], title: str) -> dict[str, float]:
    return {name: value for _, name, value in of(rows, title)}


def test_every_query_of_the_dashboard_has_data(cluster: Cluster, tmp_path: Path) -> None:
    [port] = free_ports(1)
    settings = own(cluster, web_port=port)
    with laid_out(settings) as topics, running(settings), scraping(settings, tmp_path) as prometheus, talking(topics):
        until(lambda: not without_data(prometheus), lambda: f"data of {without_data(prometheus)}")
        time.sleep(12)  # the rates are of ten seconds in which all went on
        rows = list(shown(prometheus))
        rules = [rule for group in prometheus.ask("api/v1/rules")["groups"] for rule in group["rules"]]
    for title, name, value in rows:
        print(f"{title:<45} {name:<60} {value:12.4g}")
    print(f"{'Price of 1,000 audio minutes':<45} {'at the prices that stand there':<60} {price(rows):12.4g}")
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("alerts")] in ([], ["CallpulseRejectedBurst"])
    assert values(rows, "Share of negative turns by queue")["cards"] == 1
    assert values(rows, "Share of negative turns by queue")["loans"] < 1
    assert values(rows, "Rejected by reason")["not_json"] > 0
    assert values(rows, "Live calls by queue")["cards"] > 0
    assert values(rows, "Open alerts by queue")["cards"] > 0
    assert set(values(rows, "Latency, p99")) == {"consumed", "scored", "published", "judged", "produce to alert"}
    assert values(rows, "Tokens a second")["tokens"] > 0
    assert 0 < price(rows) < 1
