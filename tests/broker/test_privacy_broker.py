"""A worker with --redact, one with --no-text: not a byte of what was masked lies in any topic that it writes, except on
calls.rejected, where originals stay as they were."""

import json

import pytest

from .conftest import Cluster
from .messages import call, now_ms
from .running import Topics, laid_out, own, running

WRITTEN = ("sentiment", "state", "alerts", "summaries")
SECRETS = ("4242", "four two four two", "이삼사오", "ann@example.com")
CARD = "four two " * 8
SAID = f"terrible awful useless 4242 4242 4242 4242 or {CARD} or 공일공 이삼사오 육칠팔구 ann@example.com"
BAD = b'{"call_id":"b","speaker":"boss","text":"4242 4242 4242 4242"}'


def lies(laid: Topics, *names: str) -> str:
    return "\n".join((record.value or b"").decode() for name in names for record in laid.records[name])


@pytest.mark.parametrize(("given", "left"), [({"redact": True}, "terrible awful useless [card]"), ({"text": False}, "")])
def test_what_is_masked_lies_in_no_topic(cluster: Cluster, given: dict[str, bool], left: str) -> None:
    settings = own(cluster, **given)
    turns = call("c-1", range(8), now_ms() - 90_000)
    said = [
        (key, json.dumps(json.loads(value or b"") | {"text": SAID}, ensure_ascii=False).encode(), at)
        for key, value, at in turns
    ]
    with laid_out(settings) as laid, running(settings) as worker:
        laid.send([(b"b", BAD, now_ms()), *said])
        laid.calls_over(1)
        laid.read_to_the_end()
        log = worker.log
    everything = lies(laid, *WRITTEN)
    assert [secret for secret in SECRETS if secret in everything + log] == []
    texts = {json.loads(record.value or b"")["text"] for record in laid.records["sentiment"]}
    evidence = {e["text"] for record in laid.records["alerts"] for e in json.loads(record.value or b"")["evidence"]}
    assert all(text.startswith(left) for text in texts | evidence)
    assert evidence
    assert "terrible" in everything or not given.get("text", True)
    assert [record.value for record in laid.records["rejected"]] == [BAD]
