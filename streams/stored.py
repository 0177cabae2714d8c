"""The state of a call as it lies on calls.state: smaller than in memory. Pure.

Quoted turns are arrays, episodes are packed, null and false are left out. The course is not stored, since the settled one and
the turns since give it.
"""

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping

import msgspec
from msgspec import field
from msgspec.structs import asdict

from streams.conversation import Conversation, Timing
from streams.episodes import Episode
from streams.kept import KIND, KINDS
from streams.late import folded
from streams.records import SEVERITIES, Evidence, Scalar

_FIELDS = [name for name in Conversation.__struct_fields__ if name not in ("recent", "episodes", "course")]
Quote = tuple[str, int, int, int, float, str]
"""Segment id, kind, start, end, score and text of an Evidence."""
Life = tuple[bytes, int, int, int, int, int, int, int | None]
"""Of an Episode: alert id (16 bytes) with the digest behind it; version, sequence, number; severity, + 3 where it is resolved,
+ 6 where acknowledged; opened; alerted since then; clear since that was."""
_life = msgspec.msgpack.Decoder(Life)


class Stored(Conversation, frozen=True, kw_only=True):
    """`recent` as arrays, `episodes` as names with what is packed (Base64), without `course`."""

    recent: tuple[Quote, ...] = ()  # type: ignore[assignment]
    episodes: tuple[tuple[str, str], ...] = ()  # type: ignore[assignment]


class Standing(Timing, frozen=True, kw_only=True):
    """What a stored state is read for before something touches it: when it is due, and what `census` counts."""

    attributes: Mapping[str, Scalar] = field(default_factory=dict)
    episodes: tuple[tuple[str, str], ...] = ()

    @property
    def open_alerts(self) -> int:
        return sum(not _episode(*each).resolved for each in self.episodes)


def stored(call: Conversation) -> dict[str, object]:
    """What is to be encoded."""
    state = {name: value for name, value in asdict(call).items() if value is not None and value is not False}
    del state["course"]
    state["recent"] = [(e.segment_id, KIND[e.speaker, e.label, 0], e.start_ms, e.end_ms, e.score, e.text) for e in call.recent]
    state["episodes"] = [(episode.name, _packed(episode)) for episode in call.episodes]
    return state


def restored(state: Stored) -> Conversation:
    """The call again, equal to the one that was stored."""
    return Conversation(
        **{name: getattr(state, name) for name in _FIELDS},
        recent=tuple(_evidence(*quote) for quote in state.recent),
        episodes=tuple(_episode(*each) for each in state.episodes),
        course=folded(state.settled, state.turns[len(state.turns) - state.unsettled :]),
    )


def _evidence(segment_id: str, kind: int, start_ms: int, end_ms: int, score: float, text: str) -> Evidence:
    speaker, label, _ = KINDS[kind]
    return Evidence(segment_id, speaker, start_ms, end_ms, score, label or "neutral", text)


def _packed(e: Episode) -> str:
    state = SEVERITIES.index(e.severity) + 3 * e.resolved + 6 * e.acknowledged
    clear = None if e.clear_ms is None else e.clear_ms - e.alerted_ms
    ids, alerted = bytes.fromhex(e.alert_id + e.digest), e.alerted_ms - e.opened_ms
    life: Life = (ids, e.version, e.sequence, e.number, state, e.opened_ms, alerted, clear)
    return b2a_base64(msgspec.msgpack.encode(life), newline=False).decode()


def _episode(name: str, packed: str) -> Episode:
    ids, version, sequence, number, state, opened_ms, alerted, clear = _life.decode(a2b_base64(packed))
    alerted_ms = opened_ms + alerted
    return Episode(
        ids[:16].hex(),
        name,
        version,
        SEVERITIES[state % 3],
        sequence,
        opened_ms,
        alerted_ms,
        resolved=state % 6 >= 3,
        number=number,
        digest=ids[16:].hex(),
        clear_ms=None if clear is None else alerted_ms + clear,
        acknowledged=state >= 6,
    )
