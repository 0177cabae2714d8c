"""Rejections read back: the inverse of how they are written, which of them are meant, and what has been retried."""

import dataclasses
import json
from datetime import datetime, timezone
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.conversation import epoch_ms
from streams.errors import SettingsError
from streams.publisher import MOST_BYTES, rejected_record
from streams.records import Reason, Record, Rejected
from streams.rejected import NAMES, Rejection, Wanted, parse, place, since_ms
from streams.retry import Mark

AT = epoch_ms(datetime(2026, 1, 31, 9, tzinfo=timezone.utc))

reasons, details = st.sampled_from(get_args(Reason)), st.text()
headers = st.lists(st.tuples(st.text() | st.sampled_from(NAMES), st.none() | st.binary()), max_size=9).map(tuple)
parts = st.none() | st.binary()
originals = st.builds(Record, st.text(), st.integers(0, 99), st.integers(0), st.just(AT), parts, parts, headers)


def published(original: Record, rejected: Rejected, stage: str = "score") -> Record:
    """What a consumer of calls.rejected gets."""
    out = rejected_record("calls.rejected", 4, original, rejected, stage)
    return Record(out.topic, out.partition, 17, AT, out.key, out.value, out.headers)


def rejection(reason: str = "wrong_type", offset: int = 0, stage: str = "score", timestamp: int = AT) -> Rejection:
    original = Record("calls.segments", 3, 1207, timestamp, b"c-1", b"{}")
    return Rejection(0, offset, timestamp, stage, reason, "text: missing", original)


@given(originals, reasons, details, st.sampled_from(("score", "judge")))
def test_what_is_written_is_read_back_and_the_original_is_untouched(
    original: Record, reason: Reason, detail: str, stage: str
) -> None:
    found = parse(published(original, Rejected(reason, detail), stage))
    assert found is not None
    assert (found.original, found.reason, found.detail, found.stage) == (original, reason, detail, stage)
    assert (found.place, found.timestamp) == (f"{original.partition % 4}:17", AT)


@given(st.builds(Record, st.text(), st.integers(), st.integers(), st.integers(), parts, parts, headers))
def test_what_somebody_else_wrote_is_no_rejection_and_no_error(record: Record) -> None:
    assert parse(record) is None or tuple(name for name, _ in record.headers[-6:]) == NAMES


@pytest.mark.parametrize("part", ["key", "value"])
def test_an_original_that_was_too_large_is_known_not_to_be_kept(part: str) -> None:
    original = Record("calls.segments", 3, 1207, AT, b"c", b"{}", (("trace", b"1"),))
    too_large = replace(original, **{part: b"x" * MOST_BYTES})  # type: ignore[arg-type]
    kept = [parse(published(o, Rejected("too_large", ""))) for o in (original, too_large)]
    assert [found and (found.kept, found.found) for found in kept] == [
        (True, "calls.segments:3:1207"),
        (False, "calls.segments:3:1207"),
    ]


def test_a_tombstone_is_kept_though_there_is_nothing_of_it() -> None:
    found = parse(published(Record("calls.segments", 3, 1207, AT, None, None), Rejected("tombstone", "")))
    assert found is not None
    assert found.kept


def test_a_row_has_all_but_what_was_said() -> None:
    said = dataclasses.replace(
        rejection(), original=Record("calls.segments", 3, 1207, AT, b"c-\xff", b'{"text": "my card is"}')
    )
    assert json.loads(json.dumps(said.row())) == {
        "place": "0:0",
        "at": "2026-01-31T09:00:00.000Z",
        "stage": "score",
        "reason": "wrong_type",
        "topic": "calls.segments",
        "partition": 3,
        "offset": 1207,
        "key": "c-\\xff",
        "detail": "text: missing",
        "kept": True,
    }


def test_what_is_wanted_is_so_by_reason_stage_and_time() -> None:
    all_of_them = [rejection(), rejection("not_json", 1), rejection(offset=2, stage="judge"), rejection(timestamp=AT + 1)]
    for wanted, taken in (
        (Wanted(), [0, 1, 2, 3]),
        (Wanted(reason="not_json"), [1]),
        (Wanted(stage="judge"), [2]),
        (Wanted(reason="wrong_type", stage="score"), [0, 3]),
        (Wanted(since_ms=AT + 1), [3]),
    ):
        assert [n for n, r in enumerate(all_of_them) if wanted.takes(r)] == taken


def test_a_place_is_partition_and_offset() -> None:
    assert place("3:1207") == (3, 1207)
    for wrong in ("", "3", "3:", ":7", "-3:7", "3:7:1", "calls.rejected:3:7", "3:x"):
        with pytest.raises(SettingsError, match="is no place such as 3:1207"):
            place(wrong)


def test_a_time_is_rfc_3339() -> None:
    assert since_ms("2026-01-31T09:00:00Z") == since_ms("2026-01-31T18:00:00+09:00") == AT
    for wrong in ("", "yesterday", "2026-01-31T09:00:00"):
        with pytest.raises(SettingsError, match=r"--since: .* is no RFC 3339 time"):
            since_ms(wrong)


runs = st.lists(st.tuples(st.none() | st.sampled_from("ab"), st.integers(0, 9)), max_size=8)


@given(runs)
def test_a_mark_covers_what_has_been_gone_over_and_nothing_else(gone: list[tuple[str | None, int]]) -> None:
    mark, done = Mark(), set[tuple[str, int]]()
    for reason, to in gone:
        mark = mark.moved(to, reason)
        done |= {(r, offset) for r in "ab" for offset in range(to) if reason in (None, r)}
    covered = {(r, offset) for r in "ab" for offset in range(10) if mark.covers(rejection(r, offset))}
    assert covered == done


def test_a_time_before_1970_is_the_beginning() -> None:
    assert since_ms("1960-01-01T00:00:00Z") == 0
