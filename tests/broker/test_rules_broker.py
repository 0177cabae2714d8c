"""Rules of one's own in a worker, on real brokers: what arrives is judged by them, and so is what does not."""

import json
from pathlib import Path

from streams.records import Alert
from streams.wire import decode_alert

from .conftest import Cluster
from .messages import now_ms
from .running import laid_out, own, running

RULES = """
rules:
  - {name: refund, severity: warning, reason: refund, when: {words: 환불}, scope: {attributes: {queue: vip}}}
  - {name: quiet, severity: info, reason: quiet, when: {silence: 2s}, escalate: {to: critical, after: 1s}, cooldown: 0s}
"""


def segment(number: int, text: str, **more: object) -> bytes:
    times = {"segment_id": f"s{number}", "start_ms": number * 1_000, "end_ms": number * 1_000 + 900}
    return json.dumps({"call_id": "c", "speaker": "customer", "text": text, **times, **more}).encode()


def test_rules_judge_what_arrives_and_what_does_not(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    settings = own(cluster, rules=str(path), grace_s=0.5)

    def alerts() -> list[Alert]:
        return [decode_alert(record.value or b"") for record in laid.records["alerts"]]

    with laid_out(settings) as laid, running(settings):
        laid.send([(b"c", segment(0, "환불을 원해요", attributes={"queue": "vip"}), now_ms())])
        laid.until(lambda _: len(alerts()) >= 3, "the refund, then a silence that gets worse")
        laid.send([(b"c", segment(9, "hello"), now_ms()), (b"c", b'{"call_id": "c", "type": "end"}', now_ms() + 1)])
        laid.calls_over(1)
        expected = laid.expected()
    story = [
        (alert.rule.name, alert.event, alert.severity) for alert in sorted(alerts(), key=lambda a: (a.rule.name, a.sequence))
    ]
    assert story == [
        ("quiet", "open", "info"),
        ("quiet", "escalate", "critical"),
        ("quiet", "resolve", "critical"),
        ("refund", "open", "warning"),
        ("refund", "resolve", "warning"),
    ]
    assert [alert.at_ms for alert in alerts() if alert.rule.name == "quiet"][:2] == [2_900, 3_900], (
        "when it was due, not when seen"
    )
    assert laid.events("alerts") == expected.alerts
