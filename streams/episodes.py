"""What the rules remember of a call: the life of each alert so far, and what was heard or has begun to hold. Pure.

Both lie in the call's state, so they are small: episodes are packed, keys are digests, hits are
times and never text.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from streams.records import RuleRef, Severity

EPISODES = 24  # kept a call; resolved ones go first, every open one stays
HITS = 40  # times at which words were heard that are kept a call, over all rules


class Episode(Struct, frozen=True):
    """A (call, rule) alert's life so far, as its last event left it; resolved ones stay for the summary.

    `number` counts the rule's episodes in the call from 1; `digest` is the rule's content when it last fired; `clear_ms` when
    the exit began to hold, None while it does not. An acknowledged episode is open: who acknowledges it sets `acknowledged`.
    """

    alert_id: str
    name: str
    version: int
    severity: Severity
    sequence: int
    opened_ms: int
    alerted_ms: int
    resolved: bool = False
    number: int = 1
    digest: str = ""
    clear_ms: int | None = None
    acknowledged: bool = False

    @property
    def rule(self) -> RuleRef:
        return RuleRef(self.name, self.version)

    def moved(self, by_ms: int) -> "Episode":
        """As it is when the call turns out to have begun so much earlier."""
        clear_ms = None if self.clear_ms is None else self.clear_ms + by_ms
        return replace(self, opened_ms=self.opened_ms + by_ms, alerted_ms=self.alerted_ms + by_ms, clear_ms=clear_ms)


class Watches(Struct, frozen=True):
    """`spoken_clock`: the call's clock when somebody was last heard (ms since 1970, partials too); `since`: by a rule's digest,
    since when (offset in ms) a rule with a minimum duration holds without having fired; `hits`: by a listener's key, the ends
    (offsets in ms) of the utterances in which its words were heard; `language`: the last that a segment named; `final_clock`:
    the call's clock when `at_ms` last could move (a final, or the first partial), 0 in a state that did not know it yet."""

    spoken_clock: int = 0
    language: str | None = None
    since: Mapping[str, int] = field(default_factory=dict)
    hits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    final_clock: int = 0

    def moved(self, by_ms: int) -> "Watches":
        """As they are when the call turns out to have begun so much earlier."""
        since = {digest: at + by_ms for digest, at in self.since.items()}
        hits = {key: tuple(at + by_ms for at in times) for key, times in self.hits.items()}
        return replace(self, since=since, hits=hits)


UNWATCHED = Watches()


def open_episode(episodes: Sequence[Episode], name: str) -> Episode | None:
    """A rule has one open episode at a time."""
    return next((e for e in episodes if e.name == name and not e.resolved), None)


def open_count(episodes: Sequence[Episode]) -> int:
    return sum([not e.resolved for e in episodes]) if episodes else 0


def next_number(episodes: Sequence[Episode], name: str) -> int:
    return max((e.number for e in episodes if e.name == name), default=0) + 1


def kept(episodes: Sequence[Episode]) -> tuple[Episode, ...]:
    """At most EPISODES of them, unless more are open. The oldest resolved ones go, those first that a later one of their rule
    follows, so that numbers go on counting."""
    last = {e.name: e.alert_id for e in episodes}
    going = sorted((e for e in episodes if e.resolved), key=lambda e: last[e.name] == e.alert_id)
    gone = {e.alert_id for e in going[: max(0, len(episodes) - EPISODES)]}
    return tuple(e for e in episodes if e.alert_id not in gone)


def with_hits(
    watches: Mapping[str, tuple[int, ...]], news: Mapping[str, int], keep: Mapping[str, int]
) -> dict[str, tuple[int, ...]]:
    """The hits with one more (offset in ms) a key: of each key its last `keep`, of all together the last HITS."""
    hits = {**watches, **{key: tuple(sorted((*watches.get(key, ()), at))[-keep[key] :]) for key, at in news.items()}}
    while sum(map(len, hits.values())) > HITS:
        oldest = min(hits, key=lambda key: hits[key][0])
        hits[oldest] = hits[oldest][1:]
        hits = {key: times for key, times in hits.items() if times}
    return hits
