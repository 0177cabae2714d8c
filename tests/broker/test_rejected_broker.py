"""`callpulse rejected` on real brokers: what it lists, shows and sends again, and what it never sends twice by accident."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest
from builders import scored
from msgspec.structs import replace

from streams import cli
from streams.errors import TopicsError
from streams.publisher import MOST_BYTES, Publisher, rejected_record
from streams.records import Record, Rejected
from streams.rejected import Rejection, Wanted
from streams.retry import CHUNK, How, Retried, retry_all, retry_places
from streams.settings import Settings, variable
from streams.wire import decode_scored, encode

from .conftest import Cluster
from .messages import now_ms
from .running import PATIENCE, WORKER, Topics, environment, laid_out, own, running

SAID = b'{"call_id":"%s","speaker":"customer","text":"thank you, perfect"}'
WRONG, JSON = Rejected("wrong_type", "text: Expected str"), Rejected("not_json", "malformed")
TOO_LARGE = Rejected("too_large", "2000000 bytes; at most 65536 are read")


def segment(call: str, offset: int = 0) -> Record:
    return Record("calls.segments", 0, offset, 0, call.encode(), SAID % call.encode(), (("trace", b"\xff"), ("none", None)))


def reject(laid: Topics, *rejections: tuple[Record, Rejected, str]) -> None:
    """Puts them on calls.rejected as a worker does, in order."""
    found = laid.found["rejected"]

    async def publish() -> None:
        publisher = Publisher(laid.settings)
        await publisher.start()
        await publisher.publish([rejected_record(found.name, found.partitions, *rejection) for rejection in rejections])
        await publisher.stop()

    asyncio.run(publish())


def retried(settings: Settings, *wanted: str, **how: bool) -> tuple[list[str], Retried]:
    """`retry --all`, perhaps of one reason only: the keys that were sent."""
    sent: list[Rejection] = []
    done = retry_all(settings, How(Wanted(*wanted), **how), sent.append)
    return [(rejection.original.key or b"").decode() for rejection in sent], done


@pytest.fixture
def laid(cluster: Cluster) -> Iterator[Topics]:
    with laid_out(own(cluster), rejected=1) as laid:
        yield laid


def test_what_is_good_now_comes_out_scored_and_what_is_bad_is_rejected_once_more(cluster: Cluster) -> None:
    judged = scored(7, 0.9, call_id="of-judge", text="the worst", scored_at=datetime.now(timezone.utc))
    of_judge = Record("calls.sentiment", 2, 40, 0, b"of-judge", encode(judged))
    with laid_out(own(cluster), segments=1) as laid, running(laid.settings):
        laid.send([(b"bad", b"{", now_ms())])
        laid.until(lambda records: len(records["rejected"]) == 1, "the bad one is rejected")
        reject(laid, (segment("of-score"), WRONG, "score"), (of_judge, WRONG, "judge"))
        keys, done = retried(laid.settings)
        assert (sorted(keys), done) == (["bad", "of-judge", "of-score"], Retried(3))
        laid.until(lambda records: len(records["sentiment"]) == 2 and len(records["rejected"]) == 4, "all three are read again")
        assert retried(laid.settings)[0] == ["bad"], "only what has come since"
    found = {s.call_id: s for r in laid.records["sentiment"] if not isinstance(s := decode_scored(r.value), Rejected)}
    assert {call: s.sentiment and s.sentiment.label for call, s in found.items()} == {
        "of-score": "positive",
        "of-judge": "negative",
    }
    assert (found["of-judge"].segment_id, found["of-judge"].start_ms) == (judged.segment_id, judged.start_ms)
    assert found["of-judge"].source.offset < 4, "a new place, so it is no repeat to the judge"


def test_originals_are_sent_untouched_as_of_now(laid: Topics) -> None:
    odd = replace(segment("odd"), value=b"\x00\xff", headers=(("callpulse-topic", b"mine"), ("a", b"1"), ("a", None)))
    empty = Record("calls.segments", 1, 1, 0, None, None)
    reject(laid, (odd, JSON, "score"), (empty, Rejected("tombstone", ""), "score"))
    began = now_ms()
    assert retried(laid.settings)[1] == Retried(2)
    laid.until(lambda records: len(records["segments"]) == 2, "both are sent")
    first, second = sorted(laid.records["segments"], key=lambda record: record.value is None)
    assert (first.key, first.value, first.headers) == (b"odd", b"\x00\xff", (*odd.headers[:2], ("a", b"")))
    assert (second.key, second.value, second.headers) == (b"", None, ())
    assert all(began <= record.timestamp <= now_ms() for record in (first, second))


def test_nothing_is_sent_twice_unless_it_is_asked_for(laid: Topics) -> None:
    reject(laid, *((segment(f"c{n}", n), WRONG, "score") for n in range(3)))
    assert retried(laid.settings, dry_run=True)[0] == ["c0", "c1", "c2"]
    assert retried(laid.settings) == (["c0", "c1", "c2"], Retried(3))
    assert retried(laid.settings) == ([], Retried())
    reject(laid, (segment("c3"), WRONG, "score"))
    assert retried(laid.settings) == (["c3"], Retried(1))
    assert retried(laid.settings, again=True)[0] == ["c0", "c1", "c2", "c3"]
    assert retried(laid.settings) == ([], Retried())
    assert retry_places(laid.settings, [(0, 2), (0, 1)], How(), lambda _: None) == Retried(2)
    laid.until(lambda records: len(records["segments"]) == 10, "3, 1, 4 and 2 are sent, none in the dry run")


def test_one_reason_after_the_other_leaves_nothing_out_and_sends_nothing_twice(laid: Topics) -> None:
    if laid.settings.broker == "embedded":
        pytest.skip("the embedded broker forgets the metadata of a commit")
    reject(laid, *((segment(f"c{n}", n), JSON if n % 2 else WRONG, "score") for n in range(6)))
    assert retried(laid.settings, "not_json") == (["c1", "c3", "c5"], Retried(3, left_out=3))
    assert retried(laid.settings, "not_json") == ([], Retried(before=3, left_out=3))
    reject(laid, (segment("c6"), JSON, "score"))
    assert retried(laid.settings) == (["c0", "c2", "c4", "c6"], Retried(4, before=3))
    assert retried(laid.settings) == ([], Retried())


def test_what_was_delivered_before_an_interrupt_is_not_sent_again(laid: Topics) -> None:
    reject(laid, *((segment(f"c{n}", n), WRONG, "score") for n in range(2 * CHUNK + 10)))
    sent: list[Rejection] = []

    def interrupted(rejection: Rejection) -> None:
        sent.append(rejection)
        if len(sent) == CHUNK + 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retry_all(laid.settings, How(), interrupted)
    keys, _ = retried(laid.settings)
    assert keys == [f"c{n}" for n in range(CHUNK, 2 * CHUNK + 10)]


@pytest.mark.parametrize("place", [(0, 1), (0, 99), (7, 0)])
def test_a_place_without_a_rejection_is_an_error_before_anything_is_sent(laid: Topics, place: tuple[int, int]) -> None:
    reject(laid, (segment("c0"), WRONG, "score"))
    laid.producer.send(laid.settings.topic("rejected"), b"not by callpulse", partition=0).get(timeout=30)
    with pytest.raises(TopicsError, match=f"has no rejected record at {place[0]}:{place[1]}"):
        retry_places(laid.settings, [(0, 0), place], How(), lambda _: None)
    laid.read_to_the_end()
    assert laid.records["segments"] == []


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(laid: Topics, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """`callpulse rejected` on these topics: its exit code, what it prints, and what it says on standard error."""
    for name in ("bootstrap_servers", "broker", "prefix", "group"):
        monkeypatch.setenv(variable(name), str(getattr(laid.settings, name)))

    def called(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(("rejected", *arguments))
        out, err = capfdbinary.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, out.decode(), err.decode()

    return called


def test_the_commands_list_show_and_retry(laid: Topics, run: Run) -> None:
    large = replace(segment("large", 2), value=b"x" * (MOST_BYTES + 1))
    control = replace(segment("c\x1b[2J", 3), value=b'{"text":"my \x1b[31mcard"}')
    reject(laid, (segment("c0"), WRONG, "score"), (segment("c1", 1), JSON, "judge"), (large, TOO_LARGE, "score"))
    reject(laid, (control, WRONG, "score"))
    laid.producer.send(laid.settings.topic("rejected"), b"not by callpulse", partition=0).get(timeout=30)

    code, out, err = run("list")
    lines = [line.split() for line in out.splitlines()]
    assert [(line[0], *line[2:6]) for line in lines] == [
        ("0:0", "score", "wrong_type", "calls.segments:0:0", "c0"),
        ("0:1", "judge", "not_json", "calls.segments:0:1", "c1"),
        ("0:2", "score", "too_large", "calls.segments:0:2", "-"),
        ("0:3", "score", "wrong_type", "calls.segments:0:3", "c"),
    ]
    assert (code, err) == (0, f"not by callpulse: {laid.settings.topic('rejected')} partition 0 offset 4\n")
    assert "thank you" not in out
    assert "\x1b" not in out
    wrong = run("list", "--json", "--reason", "wrong_type", "--since", "2026-01-31T09:00:00Z")[1]
    rows = [json.loads(line) for line in wrong.splitlines()]
    assert [(row["place"], row["kept"]) for row in rows] == [("0:0", True), ("0:3", True)]
    assert run("list", "--stage", "judge", "--since", rows[0]["at"])[1].startswith("0:1 ")
    assert run("list", "--since", "2100-01-01T00:00:00Z")[1] == ""

    code, out, err = run("show", "0:0")
    assert (code, err) == (0, "")
    assert "header trace \\xff\n" in out
    assert out.endswith("value      " + (SAID % b"c0").decode() + "\n")
    assert "\x1b" not in run("show", "0:3")[1]
    assert run("show", "0:3", "--raw") == (0, '{"text":"my \x1b[31mcard"}', "")
    assert run("show", "0:2")[::2] == (0, "the original was too large to be kept\n")
    assert run("show", "0:2", "--raw") == (1, "", "the original was too large to be kept\n")

    code, out, err = run("retry", "--all", "--dry-run")
    assert [line.split()[0] for line in out.splitlines()[:-1]] == ["0:0", "0:1", "0:3"]
    assert (code, err) == (1, "0:2 cannot be retried: it was too large to be kept\n")
    assert run("retry", "--all", "--json")[:2] == (1, '{"retried": 3, "refused": ["0:2"], "left_out": 1, "before": 0}\n')
    assert run("retry", "--all") == (0, "retried 0; 0 were retried before, 0 left out, 0 refused\n", "")
    assert run("retry", "0:1") == (0, "retried 1; 0 were retried before, 0 left out, 0 refused\n", "")
    laid.until(lambda records: len(records["segments"]) == 4, "what was retried")


def test_a_list_that_follows_goes_on_with_what_comes(laid: Topics) -> None:
    reject(laid, (segment("c0"), WRONG, "score"))
    command = [*WORKER[:-1], "rejected", "list", "--follow", "--json"]
    with subprocess.Popen(command, env=environment(laid.settings), stdout=subprocess.PIPE, text=True) as listing:
        try:
            assert listing.stdout is not None
            assert json.loads(listing.stdout.readline())["key"] == "c0"
            reject(laid, (segment("c1"), WRONG, "score"))
            assert json.loads(listing.stdout.readline())["key"] == "c1"
            listing.send_signal(signal.SIGINT)
            assert listing.wait(PATIENCE) == 130
        finally:
            listing.kill()
