import gzip
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import recording
from streams.errors import RecordingError
from streams.recording import NO_PARTITION, read, write
from streams.records import Record, Rejected, Segment
from streams.wire import decode

CALLS = Path(__file__).parent.parent / "streams" / "calls"

data = st.none() | st.binary(max_size=50) | st.text(max_size=50).map(str.encode)
records = st.builds(
    Record,
    topic=st.text(min_size=1, max_size=20),
    partition=st.integers(0, 1 << 31),
    offset=st.integers(0, 1 << 50),
    timestamp=st.integers(-1, 1 << 50),
    key=data,
    value=data,
    headers=st.lists(st.tuples(st.text(max_size=9), data), max_size=3).map(tuple),
)


def lines(*messages: object) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def saved(folder: Path, content: bytes | str, name: str = "file.jsonl") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def segment(call_id: str, **fields: object) -> dict[str, object]:
    return {"call_id": call_id, "speaker": "customer", "text": "hello", **fields}


def said(record: Record) -> Segment:
    message = decode(record.value)
    assert isinstance(message, Segment)
    return message


@given(st.lists(records, max_size=5))
def test_any_records_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, some: list[Record]) -> None:
    path = saved(tmp_path_factory.mktemp("recording"), b"".join(map(write, some)))
    assert list(read(path)) == some


@given(records)
def test_a_record_is_written_as_one_line_in_the_documented_form(record: Record) -> None:
    line = write(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert list(json.loads(line)) == ["topic", "partition", "offset", "timestamp", "key", "headers", "value"]


def test_utf8_is_written_as_text_and_other_bytes_as_base64() -> None:
    written = json.loads(write(Record("t", 0, 0, 0, "통화".encode(), b"\xff\x00", (("h", None), ("h", b"\xfe")))))
    assert written["key"] == "통화"
    assert written["value"] == {"base64": "/wA="}
    assert written["headers"] == [["h", None], ["h", {"base64": "/g=="}]]


GOOD = json.loads(write(Record("calls.segments", 1, 2, 3, b"k", b"v")))


@pytest.mark.parametrize(
    "bad",
    [
        b'{"topic": "calls.segm',
        b"\xff\xfe",
        b"[" * 100_000,
        lines({**GOOD, "offset": "2"}),
        lines({**GOOD, "value": {"base64": "%"}}),
        lines({**GOOD, "timestamp": 1 << 60}),
        lines({**GOOD, "headers": [["name"]]}),
        lines({name: value for name, value in GOOD.items() if name != "partition"}),
    ],
)
def test_a_malformed_line_of_a_recording_is_named_when_it_is_reached(tmp_path: Path, bad: bytes) -> None:
    reading = read(saved(tmp_path, lines(GOOD) + b"\n" + bad))
    assert next(reading).value == b"v"
    with pytest.raises(RecordingError, match=r"file\.jsonl, line 3: .* expected one JSON object with topic, partition"):
        next(reading)


def test_segments_keep_their_bytes_and_are_timed_and_keyed_by_what_they_say(tmp_path: Path) -> None:
    content = lines(
        {"type": "start", "call_id": "c", "start_ms": 0},
        segment("c", start_ms=100, end_ms=900.0),
        segment("c", start_ms=950),
        segment("c"),
        {"type": "end", "call_id": "c", "start_ms": 2000},
    )
    got = list(read(saved(tmp_path, content), base_ms=50_000))
    assert b"".join((r.value or b"") + b"\n" for r in got) == content
    assert [r.timestamp for r in got] == [50_000, 50_900, 50_950, 50_950, 52_000]
    assert {(r.topic, r.partition, r.key) for r in got} == {("segments", NO_PARTITION, b"c")}
    assert [r.offset for r in got] == [1, 2, 3, 4, 5]


def test_absolute_times_are_the_timestamps(tmp_path: Path) -> None:
    at = "2026-01-31T09:00:{:02}Z".format
    content = lines(
        {"type": "start", "call_id": "c", "started_at": at(0)},
        segment("c", start_at=at(1), end_at=at(3)),
        segment("c", start_ms=4000, end_ms=5500),
        segment("c", start_at=at(7)),
    )
    begin = 1_769_850_000_000
    got = [r.timestamp - begin for r in read(saved(tmp_path, content))]
    assert got == [0, 3000, 5500, 7000]


def test_a_later_call_of_a_file_begins_where_the_file_has_got_to(tmp_path: Path) -> None:
    one_after_the_other = lines(segment("a", end_ms=1000), segment("a", end_ms=9000), segment("b", end_ms=0))
    interleaved = lines(segment("b", end_ms=700), segment("a", end_ms=9500), segment("c", end_at="2026-01-31T09:00:00Z"))
    got = [r.timestamp for r in read(saved(tmp_path, one_after_the_other + interleaved))]
    assert got == [1000, 9000, 9000, 9700, 9500, 9700]


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (b'{"call_id": "c", "speaker": "boss", "text": "x"}', b"c"),
        (b'{"callId": "c"}', None),
        (b'{"call_id": 7}', None),
        (b'{"call_id": "\\ud800"}', None),
        (b'{"call_id": "c", "text": "cut o', None),
        (b"\xff\xfe \x00", None),
        (b"[" * 100_000, None),
    ],
)
def test_a_segment_that_is_not_valid_is_passed_on_as_it_is(tmp_path: Path, bad: bytes, key: bytes | None) -> None:
    content = lines(segment("c", end_ms=10)) + bad + b"\r\n" + lines(segment("c", end_ms=20))
    _, passed, after = read(saved(tmp_path, content))
    assert (passed.value, passed.key, passed.timestamp) == (bad, key, 10)
    assert isinstance(decode(passed.value), Rejected)
    assert after.timestamp == 20


def test_a_file_may_begin_with_a_segment_that_is_cut_off(tmp_path: Path) -> None:
    got = read(saved(tmp_path, b'{"call_id": "c", "te\n' + lines(segment("c", end_ms=9))))
    assert [(r.value or b"")[:20] for r in got] == [b'{"call_id": "c", "te', b'{"call_id": "c", "sp']


def test_a_call_whose_beginning_was_forgotten_goes_on_from_where_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "ORIGINS", 2)
    content = lines(*(segment(call, end_ms=ms) for call, ms in [("a", 0), ("b", 0), ("c", 100), ("a", 50), ("a", 70)]))
    assert [r.timestamp for r in read(saved(tmp_path, content))] == [0, 0, 0, 0, 20]


def test_every_sample_call_is_read_as_valid_segments_in_order_of_time() -> None:
    paths = sorted(CALLS.glob("*.jsonl"))
    assert len(paths) >= 8
    for path in paths:
        got = list(read(path))
        assert {said(r).call_id for r in got} == {path.stem}
        assert (said(got[0]).type, said(got[-1]).type) == ("start", "end")
        assert [r.timestamp for r in got] == sorted(r.timestamp for r in got)


def test_a_dialogue_is_one_call_with_estimated_times(tmp_path: Path) -> None:
    path = saved(tmp_path, "Agent: one two three four five\n\n CUSTOMER : 네 알겠어요\r\nbot:\nSystem：well\n", "my call.txt")
    got = list(read(path, base_ms=1000))
    segments = [said(r) for r in got]
    assert {s.call_id for s in segments} == {"my call"}
    assert {r.key for r in got} == {b"my call"}
    assert [s.type for s in segments] == ["start", *["segment"] * 4, "end"]
    assert [s.speaker for s in segments[1:-1]] == ["agent", "customer", "bot", "system"]
    assert [s.text for s in segments[1:-1]] == ["one two three four five", "네 알겠어요", "", "well"]
    # five words at 2.5 a second; five syllables at 4 a second; nothing; one word; half a second before each
    spans = [(500, 2500), (3000, 4250), (4750, 4750), (5250, 5650)]
    assert [(s.start_ms, s.end_ms) for s in segments[1:-1]] == spans
    assert [r.timestamp for r in got] == [1000, *(1000 + end for _, end in spans), 7150]
    assert len({s.segment_id for s in segments[1:-1]}) == 4
    assert [r.offset for r in got] == [0, 1, 3, 4, 5, 6]


def test_a_dialogue_may_name_its_speakers_in_korean(tmp_path: Path) -> None:
    got = [said(r) for r in read(saved(tmp_path, "상담사: 안녕하세요\n고객: 네\n상담원: 네\nunknown: 네\n", "통화.txt"))]
    assert [s.speaker for s in got[1:-1]] == ["agent", "customer", "agent", "unknown"]
    assert got[0].call_id == "통화"


@pytest.mark.parametrize("bad", ["Hello, how are you?", "Boss: hello", ": hello", "what is Agent: hello", '"Agent": "x"'])
def test_a_line_of_a_dialogue_without_a_known_speaker_is_an_error_before_anything_is_read(tmp_path: Path, bad: str) -> None:
    with pytest.raises(RecordingError, match=r'call\.txt, line 2: no known speaker; expected "Agent: ') as caught:
        next(read(saved(tmp_path, f"Agent: hello\n{bad}\n", "call.txt")))
    assert bad not in str(caught.value)


def test_a_dialogue_in_another_encoding_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"line 1: not UTF-8"):
        list(read(saved(tmp_path, "고객: 네".encode("cp949"))))


@pytest.mark.parametrize("document", [json.dumps([segment("c")]), json.dumps(segment("c"), indent=1), "[\n{}\n]"])
def test_json_that_is_not_one_object_a_line_is_an_error_with_the_way_out(tmp_path: Path, document: str) -> None:
    with pytest.raises(RecordingError, match="jq -c"):
        read(saved(tmp_path, document))


@pytest.mark.parametrize("content", [write(Record("t", 0, 0, 5, b"c", b"v")), lines(segment("c")), b"Agent: hello\n"])
def test_gzip_a_byte_order_mark_and_blank_lines_make_no_difference(tmp_path: Path, content: bytes) -> None:
    plain = list(read(saved(tmp_path, content, "call")))
    packed = list(read(saved(tmp_path, gzip.compress(b"\xef\xbb\xbf" + content + b"\r\n \n"), "call.gz")))
    assert plain
    assert packed == plain


@pytest.mark.parametrize("content", [gzip.compress(lines(GOOD) * 9)[:-12], b"not gzip", gzip.compress(b"x")[:12] + b"\xff" * 9])
def test_damaged_gzip_is_an_error(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(RecordingError, match=r"call\.gz: cannot be read"):
        list(read(saved(tmp_path, content, "call.gz")))


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(RecordingError, match="cannot be read"):
            read(path)


def test_standard_input_is_read_as_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Customer: hello\n")))
    assert [said(r).call_id for r in read("-")] == ["stdin"] * 3


@pytest.mark.parametrize("content", [b"", b"\n \r\n"])
def test_an_empty_file_holds_nothing(tmp_path: Path, content: bytes) -> None:
    assert list(read(saved(tmp_path, content))) == []
