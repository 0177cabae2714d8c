"""The chaos suite's oracle on hand-made records: each count is 0 where all is well, and shown to be able to be more."""

import json
from collections.abc import Callable

import pytest
from broker.messages import call
from broker.oracle import Left, Verdict, judge
from builders import NOW, T0
from msgspec.structs import replace

from models.sentiment import LexiconScorer
from streams.outcome import Outcome
from streams.pipeline import Calls, score
from streams.records import Record, Rejected, Scored
from streams.settings import Settings
from streams.topics import NAMES, Found
from streams.wire import POSITIONS_KEY, cloud_event, decode_scored, encode, partition_of, rejection

PARTITIONS = 2
SETTINGS = Settings(grace_s=1.0)
FOUND = {name: Found(SETTINGS.topic(name), f"id-{name}", PARTITIONS) for name in NAMES}
LATER = T0 + 600_000  # the calls with an end are over, no silence is
Records = dict[str, list[Record]]


def record(name: str, partition: int, offset: int, key: bytes | None, value: bytes | None, **more: object) -> Record:
    return Record(SETTINGS.topic(name), partition, offset, T0, key, value, **more)  # type: ignore[arg-type]


def sent() -> list[Record]:
    """Three calls, in both partitions, of which the last has no end; and two messages that are none."""
    messages = [m for n in (3, 4, 5) for m in call(f"call-{n}", range(20), T0, end=n < 5)]
    messages += [(b"call-3", b"no json", T0), (None, None, T0)]
    counts, made = [0] * PARTITIONS, []
    for key, value, at in sorted(messages, key=lambda message: message[2]):
        partition = partition_of((key or b"").decode(), PARTITIONS)
        made.append(replace(record("segments", partition, counts[partition], key, value), timestamp=at))
        counts[partition] += 1
    return made


def flawless() -> Records:
    """What one undisturbed worker leaves."""
    records: Records = {name: [] for name in NAMES}
    records["segments"] = sent()
    results = score(records["segments"], LexiconScorer(), SETTINGS.policy, "id-segments", lambda: NOW)
    calls = [Calls(SETTINGS.limits, PARTITIONS) for _ in range(PARTITIONS)]
    for source, result in zip(records["segments"], results, strict=True):
        if isinstance(result, Rejected):
            headers = tuple(rejection(source, result, "score"))
            add(records, "rejected", source.partition, source.key, source.value, headers=headers)
        else:
            partition = partition_of(result.call_id, PARTITIONS)
            add(records, "sentiment", partition, result.call_id.encode(), encode(result))
            outcome = Outcome()
            calls[partition].judge(result, outcome)
            happened(records, partition, outcome)
    for partition, judged in enumerate(calls):
        outcome = Outcome()
        judged.tick(dict.fromkeys(judged.timers, LATER), outcome)
        happened(records, partition, outcome)
        add(records, "state", partition, POSITIONS_KEY, encode(judged.positions))
    return records


def happened(records: Records, partition: int, outcome: Outcome) -> None:
    for name, events in (("alerts", outcome.alerts), ("summaries", outcome.summaries)):
        for event in events:
            add(records, name, partition, event.call_id.encode(), encode(event), headers=tuple(cloud_event(event)))
    for call_id, state in outcome.changed.items():
        add(records, "state", partition, call_id.encode(), encode(state) if state else None)


def add(records: Records, name: str, partition: int, key: bytes | None, value: bytes | None, **more: object) -> None:
    offset = sum(there.partition == partition for there in records[name])
    records[name].append(record(name, partition, offset, key, value, **more))


def verdict(records: Records, behind: int = 0) -> Verdict:
    """With all committed but the last few of each partition."""
    ends = {
        role: [sum(there.partition == partition for there in records[name]) - behind for partition in range(PARTITIONS)]
        for role, name in (("score", "segments"), ("judge", "sentiment"))
    }
    return judge(Left(SETTINGS, FOUND, records, ends, LATER), LexiconScorer())


def changed(name: str, i: int, old: bytes, new: bytes) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        value = records[name][i].value or b""
        assert old in value
        records[name][i] = replace(records[name][i], value=value.replace(old, new))

    return change


def dropped(name: str, i: int) -> Callable[[Records], None]:
    return lambda records: records[name].__delitem__(i)


def doubled(name: str, i: int) -> Callable[[Records], None]:
    def double(records: Records) -> None:
        again = records[name][i]
        add(records, name, again.partition, again.key, again.value, headers=again.headers)

    return double


def moved(name: str, i: int) -> Callable[[Records], None]:
    def move(records: Records) -> None:
        records[name][i] = replace(records[name][i], partition=1 - records[name][i].partition)

    return move


def swapped(records: Records) -> None:
    """Two neighbours of one source partition in the wrong order on calls.sentiment."""
    log = records["sentiment"]
    i, j = [n for n, there in enumerate(log) if there.partition == log[0].partition][:2]
    log[i], log[j] = replace(log[j], offset=log[i].offset), replace(log[i], offset=log[j].offset)


def with_another_score(records: Records) -> None:
    i = next(i for i, r in enumerate(records["sentiment"]) if b'"score":' in (r.value or b""))
    scored = decode_scored(records["sentiment"][i].value)
    assert isinstance(scored, Scored)
    assert scored.sentiment is not None
    other = replace(scored, sentiment=replace(scored.sentiment, score=scored.sentiment.score + 0.01))
    records["sentiment"][i] = replace(records["sentiment"][i], value=encode(other))


def rejected_though_good(records: Records) -> None:
    good = records["segments"][0]
    headers = tuple(rejection(good, Rejected("not_json", ""), "score"))
    add(records, "rejected", good.partition, good.key, good.value, headers=headers)


def test_what_an_undisturbed_worker_leaves_is_flawless() -> None:
    records = flawless()
    assert len(records["alerts"]) > 5
    assert len(records["summaries"]) == 2
    assert len(records["rejected"]) == 2
    assert {r.partition for r in records["sentiment"]} == {0, 1}
    clean = verdict(records)
    assert clean == Verdict(
        segments=64,
        lost=0,
        scored_twice=0,
        states_wrong=0,
        alerts_missing=0,
        alerts_extra=0,
        alerts_repeated=0,
        rejected_missing=0,
        rejected_extra=0,
        lag=0,
    )
    assert clean.flawless(transactions=True)


@pytest.mark.parametrize(
    ("fault", "counts"),
    [
        (dropped("sentiment", -1), {"lost"}),
        (moved("sentiment", 5), {"lost"}),
        (with_another_score, {"lost"}),
        (changed("sentiment", 5, b'"start_ms":', b'"end_ms":'), {"lost"}),
        (swapped, {"lost"}),
        (doubled("state", 3), {"states_wrong"}),
        (dropped("state", -1), {"states_wrong"}),
        (changed("state", -1, b'"offset":', b'"offset":1'), {"states_wrong"}),
        (dropped("alerts", 0), {"alerts_missing"}),
        (dropped("summaries", 0), {"alerts_missing"}),
        (changed("alerts", 0, b'"open"', b'"update"'), {"alerts_missing", "alerts_extra"}),
        (moved("summaries", 1), {"alerts_missing", "alerts_extra"}),
        (dropped("rejected", 0), {"rejected_missing"}),
        (changed("rejected", 0, b"no json", b"other"), {"rejected_missing", "rejected_extra"}),
        (rejected_though_good, {"rejected_extra"}),
    ],
)
def test_each_count_can_fail(fault: Callable[[Records], None], counts: set[str]) -> None:
    records = flawless()
    fault(records)
    found = verdict(records)
    assert counts <= found.examples.keys()
    assert all(getattr(found, name) > 0 for name in counts)
    assert not found.flawless(transactions=False)


def test_a_repeat_on_calls_sentiment_is_counted_and_no_failure() -> None:
    records = flawless()
    doubled("sentiment", 4)(records)
    found = verdict(records)
    assert (found.scored_twice, found.examples) == (1, {})
    assert found.flawless(transactions=True)


@pytest.mark.parametrize("name", ["alerts", "summaries"])
def test_a_repeated_event_is_a_failure_only_where_there_are_transactions(name: str) -> None:
    records = flawless()
    doubled(name, 0)(records)
    found = verdict(records)
    assert (found.alerts_repeated, found.alerts_extra) == (1, 0)
    assert found.flawless(transactions=False)
    assert not found.flawless(transactions=True)


def test_what_is_not_committed_is_lag() -> None:
    found = verdict(flawless(), behind=1)
    assert found.lag == 2 * PARTITIONS
    assert not found.flawless(transactions=False)


def test_a_message_for_a_call_that_is_over_has_to_be_rejected() -> None:
    records = flawless()
    late = json.dumps({"call_id": "call-3", "speaker": "customer", "text": "too late"}).encode()
    partition = partition_of("call-3", PARTITIONS)
    add(records, "segments", partition, b"call-3", late)
    records["segments"][-1] = source = replace(records["segments"][-1], timestamp=LATER - 1)
    [scored] = score([source], LexiconScorer(), SETTINGS.policy, "id-segments", lambda: NOW)
    assert isinstance(scored, Scored)
    add(records, "sentiment", partition, b"call-3", encode(scored))
    assert verdict(records).rejected_missing == 1
