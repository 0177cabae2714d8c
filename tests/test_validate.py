import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import validate
from streams.conversation import REPEATS
from streams.pipeline import Policy
from streams.recording import read
from streams.records import Record
from streams.replay import plan
from streams.validate import Report, review

CALLS = sorted((Path(__file__).parent.parent / "streams" / "calls").glob("*.jsonl"))
TOPIC = "calls.segments"


def record(offset: int, message: object, key: str | None = "c", timestamp: int = 0) -> Record:
    value = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Record(TOPIC, 2, offset, timestamp, None if key is None else key.encode(), value)


def place(offset: int) -> str:
    return f"{TOPIC}, partition 2, offset {offset}"


def said(n: int, **fields: object) -> dict[str, object]:
    """The n-th segment of a call about which there is nothing to say."""
    common = {"call_id": "c", "segment_id": f"s{n}", "speaker": "customer", "text": "yes I see"}
    return {**common, "start_ms": n * 3000, "end_ms": n * 3000 + 2000, **fields}


END = {"call_id": "c", "type": "end", "start_ms": 60_000}
CALL = [said(1), said(2, speaker="agent"), said(3), END]


def reviewed(messages: Iterable[object], **fields: str | None) -> Report:
    return review(record(i, message, **fields) for i, message in enumerate(messages))  # type: ignore[arg-type]


def only(report: Report) -> tuple[str, int, str]:
    """The one suspicion of a report."""
    (suspicion,) = report.suspicions
    return suspicion.code, suspicion.count, suspicion.place


@pytest.mark.parametrize("path", CALLS, ids=lambda path: path.stem)
def test_the_sample_calls_are_fine(path: Path) -> None:
    report = review(read(path))
    assert report.ok, report
    assert (report.messages, report.calls) == (len(path.read_bytes().splitlines()), 1)


def test_a_faultless_call_is_fine_and_a_partial_is_no_reuse_of_its_id() -> None:
    partial = said(1, text="yes", end_ms=3500, final=False)
    assert reviewed([partial, *CALL, said(3)]).ok


def test_nothing_to_review_is_not_fine() -> None:
    assert not review([]).ok


def test_what_would_be_rejected_is_counted_by_reason_and_field_with_the_first_place() -> None:
    messages = [*CALL, b"no json", said(4, text=7), said(5, text=8), said(6, end_ms=1), said(7, speaker=None), b"{"]
    report = reviewed(messages)
    assert not report.ok
    found = {(r.reason, r.detail.partition(":")[0]): (r.count, r.place) for r in report.rejected}
    assert found.pop(("wrong_type", "text")) == (2, place(5))
    assert found.pop(("end_before_start", "end_ms")) == (1, place(7))
    assert found.pop(("missing_field", "speaker")) == (1, place(8))
    assert sum(count for count, _ in found.values()) == 2
    assert {reason for reason, _ in found} == {"not_json"}
    assert (report.messages, report.calls) == (10, 1)


def test_places_in_a_file_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(["", *map(json.dumps, CALL), "nonsense"]))
    (rejected,) = review(read(path)).rejected
    assert rejected.place == "line 6"


def test_a_message_after_the_end_and_its_grace_would_be_rejected() -> None:
    late, later = 59_999, 60_000
    messages = [*((m, 0) for m in CALL), (said(4), late), (said(5), later), (said(6), later)]
    report = review(record(i, message, timestamp=at) for i, (message, at) in enumerate(messages))
    (rejected,) = report.rejected
    assert (rejected.reason, rejected.count, rejected.place) == ("call_ended", 2, place(5))


def test_a_call_replayed_under_its_old_id_would_be_rejected() -> None:
    recorded = list(read(CALLS[0]))
    again = [p.record for p in plan(recorded, recorded[-1].timestamp + 3_600_000, 1)]
    (rejected,) = review([*recorded, *again]).rejected
    assert (rejected.reason, rejected.count) == ("call_ended", len(again))


def test_a_voice_call_may_be_silent_for_15_minutes_and_a_chat_for_a_day() -> None:
    def quiet(channel: str, seconds: int) -> Report:
        messages = [(said(1, channel=channel), 0), (said(2), seconds * 1000), (END, seconds * 1000)]
        return review(record(i, message, timestamp=at) for i, (message, at) in enumerate(messages))

    assert quiet("voice", 899).ok
    assert quiet("chat", 86_399).ok
    assert [r.reason for r in quiet("voice", 900).rejected] == ["call_ended"]
    assert [r.reason for r in quiet("chat", 86_400).rejected] == ["call_ended"]


def renamed(old: str, new: str) -> list[dict[str, object]]:
    return [{new if name == old else name: value for name, value in said(n).items()} for n in (1, 2)]


@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("call_id", "callId"),
        ("call_id", "contactId"),
        ("segment_id", "segmentId"),
        ("speaker", "role"),
        ("text", "transcript"),
        ("text", "content"),
        ("start_ms", "startMs"),
        ("end_ms", "end_time"),
        ("end_ms", "EndMs"),
    ],
)
def test_a_field_under_another_name_is_found(field: str, written: str) -> None:
    report = reviewed([*renamed(field, written), *CALL])
    (found,) = [s for s in report.suspicions if s.code == "field_name"]
    assert (found.count, found.place) == (2, place(0))
    assert found.advice == f"{written} is not read: the field is called {field}"


@pytest.mark.parametrize(("field", "written"), [("is_final", "isFinal"), ("final", "is_partial")])
def test_a_flag_under_another_name_is_found(field: str, written: str) -> None:
    report = reviewed([said(1, **{written: True}), *CALL[1:]])
    assert only(report) == ("field_name", 1, place(0))
    assert report.suspicions[0].advice == f"{written} is not read: the field is called {field}"


@pytest.mark.parametrize(
    "fields",
    [
        {"confidence": 0.9, "words": [], "agent": "a", "channel_id": 1},
        {"transcript": "the same again", "role": "guest", "callId": "c"},
        {"is_final": True, "isFinal": True},
    ],
)
def test_further_fields_beside_our_own_are_no_suspicion(fields: dict[str, object]) -> None:
    assert reviewed([said(1, **fields), *CALL[1:]]).ok


def in_seconds(n: int) -> dict[str, object]:
    return said(n, start_ms=n * 3, end_ms=n * 3 + 2)


def test_offsets_in_whole_seconds_are_found_once_a_call() -> None:
    assert only(reviewed([*map(in_seconds, range(1, 40)), END])) == ("seconds", 1, place(0))


def test_offsets_in_fractions_of_a_second_are_found_though_they_are_rejected() -> None:
    report = reviewed([*CALL, said(4, start_ms=12.5, end_ms=14.25)])
    assert [r.reason for r in report.rejected] == ["wrong_type"]
    assert only(report) == ("seconds", 1, place(4))


def test_few_short_segments_are_not_taken_for_seconds() -> None:
    assert reviewed([said(1, start_ms=0, end_ms=400), said(2, start_ms=500, end_ms=900), END]).ok


@pytest.mark.parametrize("epoch", [1_769_850_000, 1_769_850_000_000])
def test_times_of_day_among_offsets_are_found(epoch: int) -> None:
    report = reviewed([said(1, start_ms=epoch, end_ms=epoch + 1), *CALL])
    assert ("epoch", 1, place(0)) in [(s.code, s.count, s.place) for s in report.suspicions]


def test_keys_that_are_missing_or_not_the_call_are_found() -> None:
    assert only(reviewed(CALL, key=None)) == ("no_key", 4, place(0))
    assert only(reviewed(CALL, key="C")) == ("key_differs", 4, place(0))


def test_a_call_without_an_end_is_found() -> None:
    assert only(reviewed(CALL[:-1])) == ("no_end", 1, place(0))


@pytest.mark.parametrize("fields", [{"speaker": "agent"}, {"final": False}, {"text": " "}])
def test_a_call_that_would_get_no_score_is_found(fields: dict[str, object]) -> None:
    assert only(reviewed([said(1, **fields), said(2, **fields), END])) == ("nothing_scored", 1, place(0))


def test_a_call_without_words_is_no_call_without_a_score() -> None:
    assert reviewed([{"call_id": "c", "type": "start"}, END]).ok


def test_what_is_scored_is_a_matter_of_the_policy() -> None:
    agents = [record(i, m) for i, m in enumerate([said(1, speaker="agent"), END])]
    assert not review(agents).ok
    assert review(agents, Policy(frozenset({"agent"}))).ok


def test_role_names_of_others_are_found() -> None:
    report = reviewed([*CALL, said(4, speaker="CUSTOMER"), said(5, speaker="client")])
    assert only(report) == ("speaker_name", 2, place(4))
    assert [(r.reason, r.count) for r in report.rejected] == [("wrong_type", 2)]


def test_segments_far_out_of_order_are_found_and_crosstalk_is_not() -> None:
    crosstalk = [said(1, end_ms=9000), said(2, speaker="agent", end_ms=6000), END]
    assert reviewed(crosstalk).ok
    assert only(reviewed([said(1), said(9), said(2), END])) == ("out_of_order", 1, place(2))
    at = "2026-01-31T09:{:02}:00Z".format
    absolute = [said(n, start_ms=None, end_ms=None, start_at=at(n)) for n in (2, 1)]
    assert only(reviewed([*absolute, END])) == ("out_of_order", 1, place(1))


def test_a_text_of_signs_alone_is_found_and_numbers_are_not() -> None:
    assert only(reviewed([said(1, text="?? ???"), said(2, text="4 4 1 7"), END])) == ("no_letters", 1, place(0))


def test_segments_without_an_id_are_found() -> None:
    assert only(reviewed([said(1, segment_id=None), said(2), END])) == ("no_segment_id", 1, place(0))


def test_an_id_with_two_texts_is_found_and_a_repeat_is_not() -> None:
    assert reviewed([said(1), said(1), said(2), END]).ok
    assert only(reviewed([said(1), said(2, segment_id="s1", text="no"), END])) == ("id_reused", 1, place(1))


def test_as_many_ids_are_remembered_as_the_worker_does() -> None:
    others = [said(n) for n in range(2, 2 + REPEATS)]
    again = said(1, text="no", start_ms=400_000, end_ms=400_001)
    assert only(reviewed([said(1), *others[:-1], again, END])) == ("id_reused", 1, place(REPEATS))
    assert reviewed([said(1), *others, again, END]).ok


def test_every_suspicion_says_in_one_sentence_what_to_do() -> None:
    for advice in validate.ADVICE.values():
        assert ": " in advice or "look like" in advice
        assert "\n" not in advice


def test_calls_beyond_those_that_are_followed_are_judged_when_they_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "OPEN", 2)
    ended = [{**m, "call_id": f"c{i}"} for i in range(5) for m in CALL]
    assert review(record(i, m, key=str(m["call_id"])) for i, m in enumerate(ended)).ok
    open_ended = [{**m, "call_id": f"c{i}"} for i in range(5) for m in CALL[:-1]]
    report = review(record(i, m, key=str(m["call_id"])) for i, m in enumerate(open_ended))
    assert (report.calls, only(report)) == (5, ("no_end", 5, place(0)))


def test_the_number_of_findings_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "FINDINGS", 3)
    names = ["cal_id", "callid", "CALLID", "Call_Id", "call-id"]
    report = reviewed([{name: "c"} for name in names] * 2)
    assert [(s.code, s.count) for s in report.suspicions] == [("field_name", 2)] * 3


message = st.dictionaries(
    st.sampled_from([*sorted(validate.FIELDS), "callId", "x"]),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just("customer"),
)


@given(st.lists(message.map(lambda m: json.dumps(m).encode()) | st.binary(max_size=30), max_size=8))
def test_any_messages_at_all_give_a_report_that_is_json(messages: list[bytes]) -> None:
    report = reviewed(messages)
    rejected = sum(r.count for r in report.rejected)
    assert report.messages == len(messages)
    assert rejected <= len(messages)
    back = json.loads(json.dumps(report.to_dict()))
    assert back["ok"] is report.ok
    assert sum(r["count"] for r in back["rejected"]) == rejected


MARK = "4417-hunter"


@pytest.mark.parametrize(
    "fields",
    [
        {"text": MARK + "x" * 10_000},
        {"speaker": MARK},
        {"start_at": MARK},
        {"final": MARK},
        {"type": MARK},
        {"attributes": {MARK: []}},
        {MARK: 1},
        {"transcript": MARK, "text": None},
    ],
)
def test_no_word_of_a_message_gets_into_the_report(fields: dict[str, object]) -> None:
    report = reviewed([said(1, **fields), said(1, text=MARK), b'{"text": "' + MARK.encode()])
    assert report.rejected
    assert MARK not in json.dumps(report.to_dict())
