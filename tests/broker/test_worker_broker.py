"""The worker as it is started on a command line, on real brokers: what goes in, what comes out, how it ends."""

import asyncio
import json
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaProducer

from models.sentiment import LexiconScorer
from streams.conversation import EPOCH, Positions
from streams.errors import TopicsError
from streams.pipeline import score
from streams.records import Record, Rejected, Scored, Segment
from streams.settings import Settings
from streams.state import load
from streams.wire import (
    POSITIONS_KEY,
    cloud_event,
    decode,
    decode_alert,
    decode_summary,
    encode,
    partition_of,
)

from .conftest import Cluster
from .messages import CALLS, Sent, bundled, call, now_ms
from .running import Topics, header, laid_out, own, running, started, until

Raw = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Key, value and headers."""

OVER = "ko-switch"
MIS_KEYED = "näme/1"
BUNDLED = len(list(CALLS.glob("*.jsonl")))
SAID = b'{"call_id":"%s","speaker":"customer","text":"%s"}'
HEADERS: list[tuple[str, bytes | None]] = [("trace", b"\xff\x00"), ("trace", b"2"), ("", b"")]
BAD: dict[str, tuple[str, Raw]] = {
    "no JSON": ("not_json", (b"b", b"{junk", HEADERS)),
    "tombstone": ("tombstone", (b"b", None, [])),
    "schema registry": ("schema_registry", (b"b", b"\x00\x00\x00\x00\x07" + SAID % (b"b", b"hi"), [])),
    "long text": ("too_long", (b"b", SAID % (b"b", b"x" * 10_001), [])),
    "large": ("too_large", (b"b", SAID % (b"b", b"x" * 100_000), [])),
    "no UTF-8": ("not_utf8", (b"b", b'{"call_id":"\xff"}', [])),
    "key without UTF-8": ("missing_field", (b"\xff\xfe", b"{}", [])),
    "wrong type": ("wrong_type", (b"b", b'{"call_id":"b","speaker":"boss","text":"secret words"}', [])),
    "no key": ("wrong_type", (None, b"[]", [])),
}
NULL: Raw = (b"b", b"{null header", [("nothing", None), ("trace", b"1")])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def deliver(settings: Settings, messages: Sequence[Raw]) -> None:
    """As kafka-python cannot: with null headers, and to each partition of calls.segments in turn."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, max_batch_size=1)
    await producer.start()
    try:
        for n, (key, value, headers) in enumerate(messages):
            await producer.send_and_wait(settings.topic("segments"), value, key, n % 3, headers=headers)
    finally:
        await producer.stop()


@dataclass
class Life:
    """What one worker was sent, what it left behind, and how it ended."""

    topics: Topics
    scored: list[Scored]
    bad: list[tuple[str, Raw]]
    sent: list[Sent]
    mis_keyed: list[Sent]
    web: str
    elsewhere: int
    exit_code: int
    seconds: float
    log: str


@pytest.fixture(scope="module")
def life(cluster: Cluster) -> Iterator[Life]:
    """Bad input on every partition, the bundled calls, one call under wrong keys; late words; SIGTERM."""
    settings = own(cluster, web_port=free_port(), call_url="https://crm.example/{call_id}")
    bad = [*BAD.values(), *([("not_json", NULL)] if cluster.profile == "kafka" else [])]
    sent = bundled(now_ms() - 2_000)
    mis_keyed = [
        ((b"wrong", b"other", None)[n % 3], value, at)  # the first two lie on different partitions
        for n, (_, value, at) in enumerate(call(MIS_KEYED, range(4, 12), now_ms() - 130_000))
    ]
    late = [(OVER.encode(), SAID % (OVER.encode(), b"one more thing"), now_ms())]
    with laid_out(settings, segments=3, rejected=1) as laid:
        with running(settings) as worker:
            asyncio.run(deliver(settings, [raw for _, raw in bad]))
            laid.send([*sent, *mis_keyed[:-1]])
            laid.until(lambda _: sum(s.call_id == MIS_KEYED for p in laid.scored for s in p) == 8, "mis-keyed turns")
            laid.send(mis_keyed[-1:])  # its order is not promised
            web, elsewhere = visited(settings.web_port)
            laid.calls_over(BUNDLED + 1)
            laid.send(late)
            laid.until(lambda records: header(records["rejected"][-1], "callpulse-stage") == b"judge", "the late words")
            exit_code, seconds = worker.stop(signal.SIGTERM)
        laid.read_to_the_end()
        scored = [s for partition in laid.scored for s in partition]
        yield Life(laid, scored, bad, [*sent, *late], mis_keyed, web, elsewhere, exit_code, seconds, worker.log)


def visited(port: int) -> tuple[str, int]:
    """What the web server says on 127.0.0.1, and the error number on another address of this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer, socket.socket() as other:
        return answer.read().decode(), other.connect_ex(("127.0.0.2", port))


def lexicon_scores(life: Life) -> dict[tuple[int, int], Scored | Rejected]:
    """What the pure scorer makes of calls.segments as it lies there, by place; scored when the worker scored it."""
    times = {place_of(scored): scored.scored_at for scored in life.scored}
    policy, source = life.topics.settings.policy, life.topics.found["segments"]

    def scored(record: Record) -> Scored | Rejected:
        at = times.get((record.partition, record.offset), EPOCH)
        return score([record], LexiconScorer(), policy, source.topic_id, lambda: at)[0]

    return {(record.partition, record.offset): scored(record) for record in life.topics.records["segments"]}


def place_of(scored: Scored) -> tuple[int, int]:
    return scored.source.partition, scored.source.offset


def test_every_valid_message_is_on_sentiment_once_as_the_scorer_and_the_policy_say(life: Life) -> None:
    expected = {place: s for place, s in lexicon_scores(life).items() if isinstance(s, Scored)}
    assert len(expected) == len(life.sent) + len(life.mis_keyed)
    assert {place_of(scored): scored for scored in life.scored} == expected
    assert {scored.skipped for scored in life.scored} == {None, "speaker", "partial", "empty", "event"}


def test_messages_of_a_call_keep_their_order(life: Life) -> None:
    for call_id in {json.loads(value or b"")["call_id"] for _, value, _ in life.sent}:
        sent = [decode(value) for key, value, _ in life.sent if key == call_id.encode()]
        got = [scored for scored in life.scored if scored.call_id == call_id]
        assert [said(scored) for scored in got] == [said(segment) for segment in sent]


def said(segment: Segment | Rejected) -> tuple[str, str, int | None]:
    assert isinstance(segment, Segment)
    return segment.type, segment.text, segment.start_ms


def test_alerts_and_summaries_are_those_of_the_pure_pipeline(life: Life) -> None:
    expected = life.topics.expected()
    got = {key: json.loads(value) | {"call_url": None} for key, value in life.topics.events("alerts").items()}
    assert got == {key: json.loads(value) for key, value in expected.alerts.items()}
    assert life.topics.events("summaries") == expected.summaries
    assert len(expected.alerts) >= 6
    assert len(expected.summaries) == BUNDLED + 1


def test_where_there_are_transactions_no_alert_and_no_summary_is_there_twice(life: Life) -> None:
    if not life.topics.settings.profile.transactions:
        pytest.skip("the embedded broker has no transactions")
    for name in ("alerts", "summaries"):
        assert len(life.topics.records[name]) == len(life.topics.events(name))


def test_an_alert_links_to_its_call(life: Life) -> None:
    links = {decode_alert(record.value or b"").call_url for record in life.topics.records["alerts"]}
    assert links == {"https://crm.example/en-escalating", "https://crm.example/n%C3%A4me%2F1"}


def test_every_output_lies_at_the_key_and_partition_of_its_call(life: Life) -> None:
    for name in ("sentiment", "state", "alerts", "summaries"):
        records = [record for record in life.topics.records[name] if record.key != POSITIONS_KEY]
        assert len({record.partition for record in records}) > 1
        for record in records:
            call_id = json.loads(record.value or b"")["call_id"]
            assert (record.key, record.partition) == (call_id.encode(), partition_of(call_id, 4))


def test_alerts_and_summaries_carry_cloud_events(life: Life) -> None:
    for record in life.topics.records["alerts"]:
        assert list(record.headers) == cloud_event(decode_alert(record.value or b""))
    for record in life.topics.records["summaries"]:
        assert list(record.headers) == cloud_event(decode_summary(record.value or b""))


def test_bad_input_is_on_rejected_untouched_with_its_place_and_the_reason(life: Life) -> None:
    segments = {(record.partition, record.offset): record for record in life.topics.records["segments"]}
    reasons = []
    by_place = {record.headers[-6:-3]: record for record in life.topics.records["rejected"]}
    for record in [record for record in by_place.values() if record.headers[-3][1] == b"score"]:
        *headers, topic, partition, offset, stage, reason, detail = record.headers
        original = segments[int(partition[1] or b""), int(offset[1] or b"")]
        assert (record.key, record.value, tuple(headers)) == (original.key, original.value, original.headers)
        assert (topic, stage) == (("callpulse-topic", original.topic.encode()), ("callpulse-stage", b"score"))
        assert detail[1]
        reasons.append((reason[1] or b"").decode())
    assert sorted(reasons) == sorted(reason for reason, _ in life.bad)
    untouched = [(r.key, r.value, [*r.headers[:-6]]) for r in life.topics.records["rejected"]]
    assert all(raw in untouched for _, raw in life.bad)


def test_what_comes_for_a_call_that_is_over_is_rejected_by_the_judge(life: Life) -> None:
    late = life.topics.records["rejected"][-1]
    told = {name: header(late, f"callpulse-{name}").decode() for name in ("topic", "partition", "stage", "reason")}
    assert (told["stage"], told["reason"]) == ("judge", "call_ended")
    assert told["topic"] == life.topics.settings.topic("sentiment")
    assert told["partition"] == str(partition_of(OVER, 4))
    assert json.loads(late.value or b"")["text"] == "one more thing"


def test_a_mis_keyed_call_is_set_right_and_counted(life: Life) -> None:
    got = [scored for scored in life.scored if scored.call_id == MIS_KEYED]
    assert len({scored.source.partition for scored in got}) > 1
    assert max(int(n) for n in re.findall(r"(\d+) mis-keyed", life.log)) >= len(life.mis_keyed)  # more where scored again
    [over] = {r.value for r in life.topics.records["summaries"] if r.key == MIS_KEYED.encode()}
    assert decode_summary(over or b"").speakers["customer"].segments == len(life.mis_keyed) - 1


def test_the_web_server_listens_at_its_port_on_loopback_only(life: Life) -> None:
    assert json.loads(life.web) == {"status": "OK"}
    assert life.elsewhere != 0


def test_sigterm_ends_the_worker_with_0_within_5_s(life: Life) -> None:
    assert life.exit_code == 0
    assert life.seconds < 5


def test_nothing_that_was_said_is_in_the_log(life: Life) -> None:
    said = {text for _, value, _ in life.sent if len(text := json.loads(value or b"").get("text", "")) > 10}
    assert "stopped: " in life.log
    assert [text for text in [*said, "secret words"] if text in life.log] == []


def test_missing_topics_are_refused_with_the_way_out(cluster: Cluster) -> None:
    with started(own(cluster)) as worker:
        assert worker.ends() == 1
    assert "missing topics: " in worker.log
    assert "`callpulse topics create`" in worker.log
    assert "Traceback" not in worker.log


def test_numbers_of_partitions_that_do_not_fit_are_refused_with_the_way_out(cluster: Cluster) -> None:
    with laid_out(own(cluster), state=2) as laid, started(laid.settings) as worker:
        assert worker.ends() == 1
    assert "must have one number of partitions" in worker.log
    assert "new --prefix" in worker.log
    assert "Traceback" not in worker.log


def test_states_that_were_written_with_another_number_of_partitions_are_refused(cluster: Cluster) -> None:
    with laid_out(own(cluster)) as laid:
        laid.producer.send(laid.settings.topic("state"), encode(Positions(8)), POSITIONS_KEY, partition=1).get(30)
        with pytest.raises(TopicsError, match=r"was written with 8 partitions and now has 4: .* new --prefix"):
            asyncio.run(load(laid.settings, partition=1, partitions=4))
        assert asyncio.run(load(laid.settings, partition=2, partitions=4)).positions == Positions(4)


def test_sigterm_while_the_group_is_joined_ends_the_worker_in_5_s(cluster: Cluster) -> None:
    with laid_out(own(cluster, log_level="debug")) as laid, started(laid.settings) as worker:
        until(lambda: "oining group" in worker.log, lambda: "the group being joined")
        code, seconds = worker.stop(signal.SIGTERM)
    assert code == 0
    assert seconds < 5
