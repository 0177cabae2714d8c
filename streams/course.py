"""The fold over the turns of a call in the order in which they ended: who spoke how long, how the scores went. Pure.

`Course.add(turn)` takes constant time. All of it is encoded as arrays, small and fast.
"""

from collections.abc import Mapping

from msgspec import Struct, field

from streams.records import Label
from streams.turns import Turn

ALPHA = 0.3
"""Weight of the newest turn in the exponentially weighted score, s' = (1 - a) s + a x, from 0 (neutral) at the start."""
PART = 3  # scored turns that make the first and the latest part of a call, which shift and trend compare
TALKED_OVER_MS = 500  # who begins earlier than this before the other stops has not interrupted
SPANS = 8  # stretches of talk that a turn may still turn out to have spanned
PROMPTS = 8  # a bot's last prompts


class Talk(Struct, frozen=True, array_like=True):
    """Time with speech in it: its first moment, how much of it was speech, and the last stretches, apart from each other:
    start, end, start, end, …"""

    first_ms: int = 0
    covered_ms: int = 0
    spans: tuple[int, ...] = ()

    @property
    def end_ms(self) -> int:
        return self.spans[-1] if self.spans else 0

    @property
    def gaps_ms(self) -> int:
        """Time without speech between the first word and the last."""
        return max(0, self.end_ms - self.first_ms - self.covered_ms)

    def stretches(self) -> list[tuple[int, int]]:
        """Start and end of the last ones."""
        return list(zip(self.spans[::2], self.spans[1::2], strict=True))

    def add(self, start: int, end: int, keep: int = SPANS) -> "Talk":
        spans = self.spans
        if not spans:
            return Talk(start, end - start, (start, end))
        if start > spans[-1]:
            return Talk(min(self.first_ms, start), self.covered_ms + end - start, (*spans, start, end)[-2 * keep :])
        known = self.stretches()
        joined = [(a, b) for a, b in known if b >= start and a <= end]
        begin, until = min([start, *(a for a, _ in joined)]), max([end, *(b for _, b in joined)])
        covered = self.covered_ms + until - begin - sum(b - a for a, b in joined)
        apart = sorted([*(span for span in known if span not in joined), (begin, until)])
        return Talk(min(self.first_ms, start), covered, tuple(ms for span in apart for ms in span)[-2 * keep :])


class Mood(Struct, frozen=True, array_like=True):
    """The scores of one speaker's turns. `total` of all; `ewma` weighted; since the model's last change of revision: how many
    (`since`), the lowest weighted score (`low`), the sum of the first three (`first`), the last six (`latest`)."""

    negative: int = 0
    neutral: int = 0
    positive: int = 0
    total: float = 0.0
    ewma: float = 0.0
    streak_label: Label | None = None
    streak: int = 0
    longest: int = 0
    """The longest run of negative turns."""
    revision: int = -1
    since: int = 0
    low: float = 0.0
    first: float = 0.0
    latest: tuple[float, ...] = ()

    @property
    def scored(self) -> int:
        return self.negative + self.neutral + self.positive

    def add(self, score: float, label: Label, revision: int) -> "Mood":
        streak = self.streak + 1 if label == self.streak_label else 1
        ewma = round((1 - ALPHA) * self.ewma + ALPHA * score, 6)
        same = revision == self.revision
        since = self.since + 1 if same else 1
        return Mood(
            self.negative + (label == "negative"),
            self.neutral + (label == "neutral"),
            self.positive + (label == "positive"),
            round(self.total + score, 5),
            ewma,
            label,
            streak,
            max(self.longest, streak) if label == "negative" else self.longest,
            revision,
            since,
            min(self.low, ewma) if same else ewma,
            round((self.first if same else 0.0) + (score if since <= PART else 0.0), 5),
            (*self.latest, score)[-2 * PART :] if same else (score,),
        )


UNSCORED = (0.0, 0)


class Voice(Struct, frozen=True, array_like=True):
    """One speaker's side of the call. `segments` counts final utterances, `mood` tells of those that were scored; `with_bot`
    and `with_agent` are sum and number of the scores before and after an agent took over from a bot."""

    segments: int = 0
    words: int = 0
    interruptions: int = 0
    talk: Talk = Talk()
    mood: Mood = Mood()
    with_bot: tuple[float, int] = UNSCORED
    with_agent: tuple[float, int] = UNSCORED

    @property
    def talk_ms(self) -> int:
        """Time in which the speaker spoke: what two turns cover counts once."""
        return self.talk.covered_ms

    @property
    def end_ms(self) -> int:
        return self.talk.end_ms

    @property
    def scored(self) -> int:
        return self.mood.scored

    @property
    def negative(self) -> int:
        return self.mood.negative

    @property
    def neutral(self) -> int:
        return self.mood.neutral

    @property
    def positive(self) -> int:
        return self.mood.positive

    @property
    def ewma(self) -> float:
        return self.mood.ewma

    @property
    def mean(self) -> float:
        """Mean score in [-1, 1]; 0 before the first scored turn."""
        return self.mood.total / self.scored if self.scored else 0.0


class Course(Struct, frozen=True, array_like=True):
    """The fold itself. `bot_ms` is when a bot first spoke, if it did before any agent; `agent_ms` when an agent first did."""

    voices: Mapping[str, Voice] = field(default_factory=dict)
    talk: Talk = Talk()
    bot_ms: int | None = None
    agent_ms: int | None = None
    prompts: tuple[int, ...] = ()
    repeats: int = 0
    """How often the bot said what it had said before."""

    @property
    def handover_ms(self) -> int | None:
        """When an agent took over from a bot, by the agent's first word."""
        return self.agent_ms if self.bot_ms is not None else None

    @property
    def overlap_ms(self) -> int:
        """Time in which two spoke: what the speakers' talk adds up to beyond the talk of all (three at once count twice)."""
        return sum(voice.talk.covered_ms for voice in self.voices.values()) - self.talk.covered_ms

    def add(self, turn: Turn) -> "Course":
        speaker, start = turn.speaker, turn.start_ms
        voices = {**self.voices, speaker: self._voice(turn)}
        talk = self.talk.add(start, turn.end_ms)
        bot, agent = self.bot_ms, self.agent_ms
        if speaker == "agent" and agent is None:
            agent = start
        if speaker != "bot":
            return Course(voices, talk, bot, agent, self.prompts, self.repeats)
        bot = start if bot is None and agent is None else bot
        known = turn.said in self.prompts
        prompts = self.prompts if known or not turn.said else (*self.prompts, turn.said)[-PROMPTS:]
        return Course(voices, talk, bot, agent, prompts, self.repeats + known)

    def _voice(self, turn: Turn) -> Voice:
        was = self.voices.get(turn.speaker) or Voice()
        mood, bot, agent = was.mood, was.with_bot, was.with_agent
        if turn.score is not None and turn.label is not None:
            mood = mood.add(turn.score, turn.label, turn.revision)
            if self.bot_ms is not None and self.agent_ms is None:
                bot = (round(bot[0] + turn.score, 5), bot[1] + 1)
            elif self.bot_ms is not None:
                agent = (round(agent[0] + turn.score, 5), agent[1] + 1)
        talk = was.talk.add(turn.start_ms, turn.end_ms, 2)
        interruptions = was.interruptions + self._interrupted(turn)
        return Voice(was.segments + 1, was.words + turn.words, interruptions, talk, mood, bot, agent)

    def _interrupted(self, turn: Turn) -> bool:
        """Whether it began while another spoke and went on after the other had stopped. A word thrown in is no interruption:
        it ends before the other does."""
        start, end = turn.start_ms, turn.end_ms
        others = [v.talk for name, v in self.voices.items() if v.talk.end_ms > start and name != turn.speaker]
        return bool(others) and any(
            a < start <= b - TALKED_OVER_MS and b <= end for talk in others for a, b in talk.stretches()
        )


SILENT = Course()
"""Of a call in which nobody has spoken yet."""
