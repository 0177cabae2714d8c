"""A worker whose rules file is changed while it runs, on real brokers: what was open resolves, the new version fires."""

import json
import signal
from pathlib import Path

from streams.records import Alert
from streams.rules import load
from streams.settings import Settings
from streams.wire import decode_alert, decode_state

from .apache import free_ports
from .conftest import Cluster
from .messages import now_ms
from .running import Topics, laid_out, own, running, until
from .test_health_broker import ask, caught_up

BAD = "terrible, awful, useless"


def rules(version: int, *names: str, least: float = -0.1) -> str:
    """Rules on the customer's last score, all of this version."""
    lines = [f"  - {{name: {name}, version: {version}, severity: info, reason: v{version}, cooldown: 0s, " for name in names]
    return "rules:\n" + "".join(line + f"when: {{measure: score.last, lte: {least}}}}}\n" for line in lines)


def segment(call_id: str, number: int, text: str) -> tuple[bytes, bytes, int]:
    times = {"segment_id": f"s{number}", "start_ms": number * 1_000, "end_ms": number * 1_000 + 900}
    value = json.dumps({"call_id": call_id, "speaker": "customer", "text": text, **times}).encode()
    return call_id.encode(), value, now_ms()


def alerts(laid: Topics) -> list[Alert]:
    """As a consumer has them: each once."""
    return [decode_alert(value) for value in laid.events("alerts").values()]


def story(laid: Topics, name: str) -> dict[str, list[tuple[str, int, str]]]:
    """What a rule told of each call."""
    told: dict[str, list[tuple[str, int, str]]] = {}
    for alert in sorted((a for a in alerts(laid) if a.rule.name == name), key=lambda a: a.sequence):
        told.setdefault(alert.call_id, []).append((alert.event, alert.rule.version, alert.reason))
    return told


def in_force(settings: Settings, path: Path) -> None:
    """Returns when the worker judges by what lies in the file."""
    until(lambda: ask(settings, "healthz")[1]["rules"].get("hash") == load(path).hash, lambda: "the rules in force")


CALLS = ("a", "b", "c", "d", "e", "f")  # some in each of the partitions


def test_a_changed_file_is_taken_a_broken_one_is_not_and_a_restart_does_the_same(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(rules(1, "low", "gone"))
    [port] = free_ports(1)
    settings = own(cluster, rules=str(path), rules_poll_s=0.1, grace_s=0.5, web_port=port)
    opened, changed = ("open", 1, "v1"), ("resolve", 1, "The rule was changed.")
    with laid_out(settings) as laid:
        with running(settings) as worker:
            in_force(settings, path)
            first = load(path).hash
            laid.send([segment(call_id, 0, BAD) for call_id in CALLS])
            laid.until(lambda _: len(alerts(laid)) == 2 * len(CALLS), "the old rules fire")

            path.write_text(rules(2, "low") + "  - {name: [\n")
            until(lambda: "refused" in ask(settings, "healthz")[1]["rules"], lambda: "the broken file is noticed")
            laid.send([segment(call_id, 1, BAD) for call_id in CALLS])
            caught_up(laid, 2 * len(CALLS))
            told = ask(settings, "healthz")[1]["rules"]
            assert (told["hash"], told["refused"].startswith(f"{path}:")) == (first, True)

            path.write_text(rules(2, "low"))
            laid.until(lambda _: len(alerts(laid)) == 4 * len(CALLS), "what was open resolves though nothing arrives")
            in_force(settings, path)
            assert story(laid, "gone") == {c: [opened, ("resolve", 1, "The rule was removed.")] for c in CALLS}
            assert story(laid, "low") == {call_id: [opened, changed] for call_id in CALLS}

            laid.send([segment(call_id, 2, BAD) for call_id in CALLS])
            laid.until(lambda _: len(alerts(laid)) == 5 * len(CALLS), "the new version fires")
            assert {a.rule.version for a in alerts(laid) if a.event == "open" and a.reason == "v2"} == {2}
            assert {decode_state(state or b"").rules for state in laid.states().values()} == {load(path).hash}
            assert worker.log.count("rules refused") == 1
            assert f"rules {load(path).hash} (1) in force, where rules {first} (2) were" in worker.log
            worker.stop(signal.SIGTERM)

        path.write_text(rules(3, "low"))
        with running(settings):
            laid.until(
                lambda _: len(alerts(laid)) == 6 * len(CALLS), "a restart lets go in the same way, though nothing arrives"
            )
            laid.send([segment(call_id, 3, BAD) for call_id in CALLS])
            laid.until(lambda _: len(alerts(laid)) == 7 * len(CALLS), "and the third version fires")
            laid.send(
                [(call_id.encode(), json.dumps({"call_id": call_id, "type": "end"}).encode(), now_ms()) for call_id in CALLS]
            )
            laid.calls_over(len(CALLS))
            laid.read_to_the_end()
    last = [a for a in alerts(laid) if a.event == "resolve" and a.reason == "The call is over."]
    assert sorted((a.call_id, a.rule.version, a.sequence) for a in last) == [(call_id, 3, 2) for call_id in CALLS]
    episodes = {a.alert_id for a in alerts(laid) if a.rule.name == "low"}
    assert len(episodes) == 3 * len(CALLS)
