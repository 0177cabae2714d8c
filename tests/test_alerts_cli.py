"""`callpulse alerts` without a broker: which events are meant, since when, and how one looks."""

from datetime import datetime, timedelta, timezone

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_live import alert

from streams import alerts_cli
from streams.alerts_cli import Wanted, lines, once, since_ms
from streams.conversation import epoch_ms
from streams.errors import SettingsError
from streams.records import SEVERITIES, Record, RuleRef, Severity
from streams.wire import encode

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (Wanted(), True),
        (Wanted("warning"), True),
        (Wanted("critical"), False),
        (Wanted(rules=("sharp_drop",)), True),
        (Wanted(rules=("long_*", "sharp_????")), True),
        (Wanted(rules=("sharp",)), False),
        (Wanted(rules=("SHARP_DROP",)), False),
        (Wanted(calls=("call-1",)), True),
        (Wanted(calls=("call-2", "c?")), False),
        (Wanted(events=("resolve", "open")), True),
        (Wanted(events=("resolve",)), False),
        (Wanted("info", ("sharp*",), ("call*",), ("open",)), True),
        (Wanted("info", ("sharp*",), ("x*",), ("open",)), False),
    ],
)
def test_an_event_is_meant_when_every_filter_takes_it(wanted: Wanted, taken: bool) -> None:
    assert wanted.takes(alert()) is taken


@given(st.sampled_from(SEVERITIES), st.sampled_from(SEVERITIES))
def test_a_severity_means_the_graver_ones_as_well(severity: Severity, least: Severity) -> None:
    order = ("info", "warning", "critical")
    assert Wanted(least).takes(alert(severity=severity)) is (order.index(severity) >= order.index(least))


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("1d", timedelta(days=1)),
        ("2026-01-31T09:00:00Z", timedelta(minutes=30)),
        ("2026-01-31T18:00:00+09:00", timedelta(minutes=30)),
    ],
)
def test_since_is_a_time_or_so_long_ago(text: str, ago: timedelta) -> None:
    assert since_ms(text, NOW) == epoch_ms(NOW - ago)


@pytest.mark.parametrize("text", ["yesterday", "15", "15 m", "-1h", "999999d", "2026-01-31T09:00:00", ""])
def test_any_other_since_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--since: "):
        since_ms(text, NOW)


def record(offset: int, value: bytes) -> Record:
    return Record("calls.alerts", 0, offset, 0, b"call-1", value)


def test_a_repeat_is_left_out_and_what_is_no_alert_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (encode(alert(n)) for n in (1, 2, 3))
    values = [first, b"{}", first, second, encode(alert(1, 2, "resolve"))]
    found = [(a.alert_id[-1], a.sequence) for a, _ in once(record(n, value) for n, value in enumerate(values))]
    assert found == [("1", 1), ("2", 1), ("1", 2)]
    assert capsys.readouterr().err == "no alert: calls.alerts partition 0 offset 1\n"
    monkeypatch.setattr(alerts_cli, "REMEMBERED", 1)  # the oldest is forgotten first
    assert [value for _, value in once(record(0, v) for v in (first, second, third, third, first))] == [
        first,
        second,
        third,
        first,
    ]


def test_a_line_tells_the_event_and_the_quoted_turns_follow() -> None:
    assert [click.unstyle(line) for line in lines(alert(61, call_id="c\x1b[2J"))] == [
        "09:30:00 open     warning  sharp_drop  c [2J at 1:01: reason 61.1",
        "    -0.90 customer: quote 61",
    ]
    assert len(list(lines(alert(event="resolve")))) == 1


@pytest.mark.parametrize(
    ("severity", "event", "colour"),
    [("critical", "open", 31), ("warning", "update", 33), ("info", "open", 36), ("critical", "resolve", 32)],
)
def test_the_colour_is_the_severity_s_until_it_is_resolved(severity: str, event: str, colour: int) -> None:
    head, *quotes = lines(alert(severity=severity, event=event, rule=RuleRef("r", 1)))
    assert head.startswith(f"\x1b[{colour}m09:30:00 {event:<8} {severity:<8} r\x1b[0m  call-1")
    assert not any("\x1b" in quote for quote in quotes)


def test_without_a_text_a_turn_is_only_its_score() -> None:
    [said] = alert().evidence
    from msgspec.structs import replace

    assert list(lines(alert(evidence=(replace(said, text=""),))))[1] == "    -0.90 customer"


@pytest.mark.parametrize("text", ["1960-01-01T00:00:00Z", "30000d"])
def test_a_time_before_1970_is_the_beginning(text: str) -> None:
    assert since_ms(text, NOW) == 0


def test_an_event_that_nothing_writes_yet_is_no_option() -> None:
    assert alerts_cli.EVENTS == ["open", "update", "escalate", "resolve"]
