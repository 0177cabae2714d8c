"""What a worker exposes on /metrics over a real socket is what lies in its topics, and is so again after it was killed."""

import json
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from streams.records import Alert
from streams.rules import load
from streams.settings import Settings
from streams.wire import decode_alert, decode_state

from .apache import free_ports
from .conftest import Cluster
from .messages import Sent, call, now_ms
from .plays import committed
from .running import RULES, Topics, header, laid_out, own, running, until

QUEUES = {"billing": 3, "tech": 2, "none": 1}
TURNS = 12  # with which the customer is still unhappy


class Scraped:
    """The samples of one scrape."""

    def __init__(self, settings: Settings) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.web_port}/metrics", timeout=10) as answer:
            self.content_type, self.text = answer.headers["Content-Type"], answer.read().decode()
        families = text_string_to_metric_families(self.text)
        self.samples = [sample for family in families for sample in family.samples]

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of a metric by these labels, those that are 0 left out."""
        found = [(tuple(s.labels[label] for label in labels), s.value) for s in self.samples if s.name == name]
        assert len(dict(found)) == len(found)
        return {key: value for key, value in found if value}

    def one(self, name: str, **labels: str) -> float:
        [value] = [s.value for s in self.samples if s.name == name and s.labels.items() >= labels.items()]
        return value


@dataclass
class Scene:
    topics: Topics
    before: Scraped
    after: Scraped
    sent: list[Sent]


def messages() -> list[Sent]:
    """Calls of two queues and of none, one of them over, with what cannot be used."""
    sent: list[Sent] = []
    for queue, count in QUEUES.items():
        for n in range(count):
            name = f"{queue}-{n}"
            attributes = json.dumps({"call_id": name, "type": "start", "attributes": {"queue": queue}}).encode()
            sent += [(name.encode(), attributes, now_ms() - 200_000)] if queue != "none" else []
            sent += call(name, range(TURNS), now_ms() - 200_000, end=name == "billing-0")
    sent.append((b"billing-1", b"{junk", now_ms()))
    sent.append((b"billing-1", None, now_ms()))
    sent.append((b"elsewhere", json.dumps({"call_id": "tech-0", "speaker": "agent", "text": "one moment"}).encode(), now_ms()))
    return sent


def quiet(settings: Settings) -> Scraped:
    """Once nothing is left to do, as the worker itself says."""
    seen = [Scraped(settings)]

    def caught_up() -> bool:
        seen[0] = Scraped(settings)
        places = [s for s in seen[0].samples if s.name == "callpulse_consumer_lag"]
        return len(places) == 8 and not any(place.value for place in places)

    until(caught_up, lambda: seen[0].text)
    return seen[0]


def killed(cluster: Cluster) -> Scene:
    """A worker does all its work and is killed; another one starts, and nothing more comes."""
    [port] = free_ports(1)
    settings = own(cluster, web_port=port, stall_s=4.0, partitions=4)
    with laid_out(settings) as laid:
        sent = messages()
        with running(settings) as worker:
            laid.send(sent)
            laid.until(lambda _: sum(committed(laid, "score", "segments")) == len(sent), "all scored and committed")
            laid.calls_over(1)
            before = quiet(settings)
            worker.kill()
        laid.read_to_the_end()
        with running(settings):
            after = quiet(settings)
        return Scene(laid, before, after, sent)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Scene:
    return killed(cluster)


def test_prometheus_is_told_the_format(scene: Scene) -> None:
    assert scene.before.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_segments_are_counted_by_what_became_of_them(scene: Scene) -> None:
    scored = [turn for partition in scene.topics.scored for turn in partition]
    assert scene.before.by("callpulse_segments_total", "outcome") == {
        ("scored",): sum(turn.sentiment is not None for turn in scored),
        ("skipped",): sum(turn.sentiment is None for turn in scored),
        ("rejected",): 2,
    }
    consumed = scene.before.by("messaging_client_consumed_messages_total", "messaging_destination_name")
    names = {name: scene.topics.settings.topic(name) for name in ("segments", "sentiment")}
    assert consumed == {(names["segments"],): len(scene.sent), (names["sentiment"],): len(scored)}
    assert scene.before.by("callpulse_mis_keyed_total") == {(): 1}


def test_what_was_sent_is_what_lies_in_each_topic(scene: Scene) -> None:
    sent = scene.before.by("messaging_client_sent_messages_total", "messaging_destination_name")
    lie = {(scene.topics.settings.topic(name),): len(records) for name, records in scene.topics.records.items()}
    del lie[scene.topics.settings.topic("segments"),]
    assert sent == lie


def test_rejections_are_counted_by_their_reason(scene: Scene) -> None:
    reasons = Counter((header(record, "callpulse-reason").decode(),) for record in scene.topics.records["rejected"])
    assert scene.before.by("callpulse_rejected_total", "reason") == reasons == {("not_json",): 1, ("tombstone",): 1}


def alerts(scene: Scene) -> list[Alert]:
    return [decode_alert(record.value or b"") for record in scene.topics.records["alerts"]]


def test_alerts_are_counted_by_rule_severity_and_event(scene: Scene) -> None:
    there = Counter((alert.rule.name, alert.severity, alert.event) for alert in alerts(scene))
    assert scene.before.by("callpulse_alerts_total", "rule", "severity", "event") == there
    assert len(there) > 2
    by_segments = scene.before.one("callpulse_alert_delay_seconds_count")
    assert by_segments == sum(alert.event != "resolve" or "over" not in alert.reason for alert in alerts(scene))
    assert scene.before.one("callpulse_summaries_total") == 1


def test_live_calls_and_open_alerts_are_those_of_the_stored_states_and_come_back_after_a_kill(scene: Scene) -> None:
    live, open_ = Counter[tuple[str]](), Counter[tuple[str]]()
    for state in scene.topics.states().values():
        stored = decode_state(state or b"")
        if stored.status != "closed":
            queue = (str(stored.attributes.get("queue", "none")),)
            live[queue] += 1
            open_[queue] += sum(not episode.resolved for episode in stored.episodes)
    assert live == {("billing",): 2, ("tech",): 2, ("none",): 1}
    assert sum(open_.values()) > 0
    for scraped in (scene.before, scene.after):
        assert scraped.by("callpulse_live_calls", "queue") == live
        assert scraped.by("callpulse_open_alerts", "queue") == +open_


def test_turns_are_counted_by_queue_and_label(scene: Scene) -> None:
    labels = Counter(
        (turn.call_id.partition("-")[0], turn.sentiment.label)
        for partition in scene.topics.scored
        for turn in partition
        if turn.sentiment
    )
    assert scene.before.by("callpulse_turns_total", "queue", "label") == labels
    assert sum(labels.values()) == TURNS * sum(QUEUES.values())


def test_spoken_time_and_the_stages_are_of_every_segment(scene: Scene) -> None:
    assert scene.before.one("callpulse_audio_seconds_total") == 4.0 * TURNS * sum(QUEUES.values())
    counts = scene.before.by("callpulse_stage_duration_seconds_count", "stage")
    scored = len(scene.sent) - 2
    assert counts == {("consumed",): scored + 2, ("scored",): scored + 2, ("published",): scored + 2, ("judged",): scored}
    assert scene.before.one("callpulse_stage_duration_seconds_sum", stage="consumed") > 30 * len(scene.sent)
    assert 0 < scene.before.one("callpulse_stage_duration_seconds_sum", stage="judged") < 45 * scored
    batches = scene.before.by("messaging_process_duration_seconds_count", "messaging_consumer_group_name")
    assert batches.keys() == {(f"{scene.topics.settings.group}-{role}",) for role in ("score", "judge")}


def test_the_model_the_rules_and_the_process_are_named(scene: Scene) -> None:
    assert scene.before.by("callpulse_rules_info", "hash") == {(load(Path(RULES)).hash,): 1}
    assert scene.before.by("callpulse_model_info", "name") == {("lexicon",): 1}
    assert scene.before.one("callpulse_rules_failed") == 0
    assert scene.before.one("callpulse_device_seconds_total", device="cpu") > 0
    texts = scene.before.one("callpulse_batch_segments_sum") + scene.before.one("callpulse_cache_hits_total")
    assert texts == scene.before.one("callpulse_segments_total", outcome="scored")
    assert scene.before.one("process_resident_memory_bytes") > 1 << 20


def test_a_worker_that_has_done_nothing_yet_has_counted_nothing(scene: Scene) -> None:
    assert scene.after.by("callpulse_segments_total", "outcome") == {}
    assert scene.after.by("callpulse_alerts_total", "rule", "severity", "event") == {}
    assert scene.after.by("callpulse_turns_total", "queue", "label") == {}
    assert scene.after.by("callpulse_rejected_total", "reason") == {}


def test_nobody_is_named(scene: Scene) -> None:
    for scraped in (scene.before, scene.after):
        assert not any(name in scraped.text for name in ("billing-1", "tech-0", "terrible", "wonderful", "one moment"))
