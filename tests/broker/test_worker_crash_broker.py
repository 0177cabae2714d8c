"""Workers that die, break, come and go: nothing is lost, and nothing is said twice in different words."""

import re
from collections.abc import Callable, Iterator

import pytest

from streams.wire import decode_state, decode_summary

from .conftest import Cluster
from .plays import CALLS, POISONED, TURNS, Scene, apart, broken_twice, came_and_went, killed_twice
from .running import header, side_by_side

Play = Callable[[Cluster], Scene]
PLAYS: tuple[Play, ...] = (killed_twice, came_and_went, broken_twice, apart)


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Callable[[Play], Scene]]:
    with side_by_side(PLAYS, cluster) as played:
        yield played


@pytest.mark.parametrize("play", PLAYS)
def test_nothing_is_lost_on_the_way_to_sentiment(scene: Callable[[Play], Scene], play: Play) -> None:
    over = scene(play)
    sent, got = sorted((value or b"") for _, value, _ in over.sent), over.topics
    assert sorted(record.value or b"" for record in got.records["segments"]) == sent
    rejected = {int(header(record, "callpulse-offset")) for record in got.records["rejected"]}
    places = {(record.partition, record.offset) for record in got.records["segments"] if record.offset not in rejected}
    assert {(scored.source.partition, scored.source.offset) for part in got.scored for scored in part} == places


@pytest.mark.parametrize("play", PLAYS)
def test_first_occurrences_are_in_the_order_of_their_source(scene: Callable[[Play], Scene], play: Play) -> None:
    for partition in scene(play).topics.scored:
        for lane in {scored.source.lane for scored in partition}:
            offsets = [scored.source.offset for scored in partition if scored.source.lane == lane]
            assert offsets == sorted(offsets)


@pytest.mark.parametrize("play", PLAYS)
def test_alerts_and_summaries_by_their_ids_are_those_of_the_pure_pipeline(scene: Callable[[Play], Scene], play: Play) -> None:
    got = scene(play).topics
    expected = got.expected()
    assert got.events("alerts") == expected.alerts
    assert got.events("summaries") == expected.summaries


@pytest.mark.parametrize("play", PLAYS)
def test_the_stored_states_and_positions_are_those_of_the_pure_pipeline(scene: Callable[[Play], Scene], play: Play) -> None:
    got = scene(play).topics
    expected = got.expected()
    assert got.states() == expected.states
    assert got.positions() == expected.positions


def test_after_two_kills_every_call_has_all_its_turns(scene: Callable[[Play], Scene]) -> None:
    got = scene(killed_twice).topics
    summaries = [decode_summary(value) for value in got.events("summaries").values()]
    counts = {summary.call_id: summary.speakers["customer"].segments for summary in summaries}
    live = [state for value in got.states().values() if (state := decode_state(value or b"")).status == "live"]
    assert counts | {call.call_id: call.customer.segments for call in live} == {f"call-{n}": TURNS for n in range(CALLS)}
    assert len(counts) == len(live) == CALLS // 2
    assert len(got.events("alerts")) > CALLS


def test_a_worker_that_joins_and_leaves_amid_the_traffic_breaks_nothing(scene: Callable[[Play], Scene]) -> None:
    over = scene(came_and_went)
    assert over.notes["amid"]
    for worker in over.workers:
        assert worker.ends() == 0
        assert "CRITICAL" not in worker.log


def test_workers_that_join_and_leave_score_nothing_twice(scene: Callable[[Play], Scene]) -> None:
    got = scene(came_and_went).topics
    assert len(got.records["sentiment"]) == sum(map(len, got.scored))


def test_a_message_that_the_code_fails_on_stops_the_worker_and_nothing_from_there_on_is_acknowledged(
    scene: Callable[[Play], Scene],
) -> None:
    over = scene(broken_twice)
    worker, topic = over.workers[0], over.topics.settings.topic("segments")
    assert worker.ends() == 1
    assert (
        f"unexpected error at {topic} partition 0 offset {POISONED}; `callpulse worker --skip {topic}:0:{POISONED}`"
        in worker.log
    )
    assert "RuntimeError" in worker.log
    assert "unspeakable" not in worker.log
    assert 4 <= over.notes["scored"] <= POISONED
    assert over.notes["acknowledged"] == [over.notes["scored"]]


def test_a_skipped_record_and_a_text_that_the_model_fails_on_are_on_rejected_and_the_stream_goes_on(
    scene: Callable[[Play], Scene],
) -> None:
    skipped, failed = scene(broken_twice).topics.records["rejected"]
    told = [[header(r, f"callpulse-{n}") for n in ("offset", "stage", "reason", "detail")] for r in (skipped, failed)]
    assert told == [
        [b"%d" % POISONED, b"score", b"skipped", b"by --skip"],
        [b"%d" % (POISONED + 1), b"score", b"scoring_failed", b"ValueError"],
    ]
    assert b"unspeakable" in (skipped.value or b"")
    assert b"unsayable" in (failed.value or b"")


def test_a_broken_publisher_stops_the_worker_and_nothing_is_stored_or_acknowledged(scene: Callable[[Play], Scene]) -> None:
    over = scene(broken_twice)
    worker = over.workers[1]
    assert worker.ends() == 1
    place = re.search(rf"begins at {over.topics.settings.topic('sentiment')} partition (\d) offset (\d+)", worker.log)
    assert place is not None
    assert over.notes["judged"][int(place[1])] <= int(place[2])
    assert "DeliveryError: the broker is full" in worker.log
    assert over.notes["alerts_after"] == over.notes["alerts"] != {}
    assert over.notes["stored"] is None or decode_state(over.notes["stored"]).episodes == ()


def test_a_silent_call_is_not_over_while_segments_are_unscored(scene: Callable[[Play], Scene]) -> None:
    over = scene(apart)
    assert over.notes["early"] == 0
    [lagging] = [r.value or b"" for r in over.topics.records["summaries"] if r.key == b"lagging"]
    assert (decode_summary(lagging).ended_by, decode_summary(lagging).speakers["customer"].segments) == ("silence", 20)


def test_a_grace_survives_a_kill(scene: Callable[[Play], Scene]) -> None:
    over = scene(apart)
    assert over.notes["before_the_kill"] == 1
    [dying] = [r.value or b"" for r in over.topics.records["summaries"] if r.key == b"dying"]
    assert (decode_summary(dying).ended_by, decode_summary(dying).speakers["customer"].segments) == ("end", 5)


def test_sigint_ends_either_agent_with_130_within_5_s(scene: Callable[[Play], Scene]) -> None:
    for name in ("interrupted", "judge_interrupted"):
        code, seconds = scene(apart).notes[name]
        assert code == 130
        assert seconds < 5


def test_the_judge_alone_loads_no_model(scene: Callable[[Play], Scene]) -> None:
    assert scene(apart).workers[2].lines[-1] == "imported set()"
