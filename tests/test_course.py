"""The fold over a call's turns: who spoke how long, who interrupted, what the bot repeated, how the scores went."""

from builders import folded, scored
from hypothesis import given
from hypothesis import strategies as st

from streams.conversation import Conversation, advance
from streams.course import SPANS, Mood, Talk
from streams.kept import REVISIONS
from streams.records import Model, Scored

spans = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), min_size=1, max_size=SPANS)


@given(spans)
def test_talk_is_the_time_that_somebody_spoke_whatever_overlaps(said: list[tuple[int, int]]) -> None:
    talk = Talk()
    for start, length in said:
        talk = talk.add(start, start + length)
    spoken = {ms for start, length in said for ms in range(start, start + length)}
    first, last = min(start for start, _ in said), max(start + length for start, length in said)
    assert (talk.covered_ms, talk.first_ms, talk.end_ms) == (len(spoken), first, last)
    assert talk.gaps_ms == last - first - len(spoken)


def talk(*said: tuple[str, int, int], text: str = "yes") -> list[Scored]:
    """Speaker, start and end in seconds."""
    return [
        scored(n, speaker=who, start_ms=a * 1000, end_ms=b * 1000, text=text, segment_id=f"{who}-{a}-{b}")
        for n, (who, a, b) in enumerate(said)
    ]


def interruptions(call: Conversation) -> dict[str, int]:
    return {name: voice.interruptions for name, voice in call.voices.items()}


def test_a_long_turn_that_spans_a_pause_of_the_others_leaves_no_silence() -> None:
    call = folded(talk(("customer", 0, 1), ("customer", 5, 6), ("agent", 0, 10)))
    assert (call.silence_ms, call.overlap_ms) == (0, 2_000)


def test_who_begins_before_the_other_has_stopped_and_goes_on_interrupts() -> None:
    call = folded(talk(("agent", 0, 10), ("customer", 8, 15), ("agent", 15, 20)))
    assert interruptions(call) == {"agent": 0, "customer": 1}
    assert call.overlap_ms == 2_000


def test_a_word_thrown_in_is_no_interruption_and_neither_is_half_a_second() -> None:
    assert interruptions(folded(talk(("customer", 4, 5), ("agent", 0, 10)))) == {"agent": 0, "customer": 0}
    early = [*talk(("agent", 0, 10)), scored(1, speaker="customer", start_ms=9_501, end_ms=15_000)]
    assert interruptions(folded(early)) == {"agent": 0, "customer": 0}
    assert interruptions(folded([*talk(("agent", 0, 10)), scored(1, start_ms=9_500, end_ms=15_000)])) == {
        "agent": 0,
        "customer": 1,
    }


def test_whoever_is_interrupted_of_three_it_counts() -> None:
    call = folded(talk(("system", 0, 9), ("agent", 6, 9), ("customer", 5, 15)))
    assert interruptions(call) == {"system": 0, "agent": 1, "customer": 1}


def test_one_speaker_alone_neither_overlaps_nor_interrupts() -> None:
    call = folded(talk(("agent", 0, 10), ("agent", 8, 15)))
    assert (interruptions(call), call.overlap_ms, call.voices["agent"].talk_ms) == ({"agent": 0}, 0, 15_000)


def bot(*texts: str) -> list[Scored]:
    return [scored(n, speaker="bot", text=text) for n, text in enumerate(texts)]


def test_a_prompt_is_repeated_when_the_words_are_the_same() -> None:
    call = folded(bot("Say yes or no", "which card", "say  yes or NO", "which card", "which card?"))
    assert call.course.repeats == 2
    assert folded([scored(0, text="yes"), scored(1, text="yes")]).course.repeats == 0
    assert folded(bot("again", *map(str, range(8)), "again")).course.repeats == 0, "only the last eight prompts are known"


def test_the_hand_over_is_the_agents_first_word_after_a_bots() -> None:
    turns = [*bot("hello"), scored(1, -0.5), scored(2, speaker="agent"), scored(3, 0.75), scored(4, 0.25), *bot("survey")]
    turns[-1] = scored(5, speaker="bot", text="survey")
    call = folded(turns)
    assert call.course.handover_ms == 20_000
    assert (call.customer.with_bot, call.customer.with_agent) == ((-0.5, 1), (1.0, 2))


def test_a_bot_after_the_agent_is_no_hand_over() -> None:
    call = folded([scored(0, speaker="agent"), scored(1, -0.5), scored(2, speaker="bot"), scored(3, -0.5)])
    assert call.course.handover_ms is None
    assert (call.customer.with_bot, call.customer.with_agent) == ((0.0, 0), (0.0, 0))


def mood(*scores: float, revision: int = 0, before: Mood | None = None) -> Mood:
    made = before or Mood()
    for score in scores:
        made = made.add(score, "negative" if score < -0.5 else "positive" if score > 0.5 else "neutral", revision)
    return made


def test_streaks_count_turns_of_one_label_in_a_row() -> None:
    made = mood(-1, -1, -1, 0, -1)
    assert (made.streak_label, made.streak, made.longest) == ("negative", 1, 3)


def test_what_is_compared_starts_afresh_with_another_revision_of_the_model() -> None:
    made = mood(0.4, before=mood(-1, -1, -1, -1), revision=1)
    assert (made.since, made.first, made.latest, made.low) == (1, 0.4, (0.4,), made.ewma)
    assert (made.scored, made.total, made.streak) == (5, -3.6, 1)


def test_nine_revisions_are_told_apart_by_the_turns_that_are_kept() -> None:
    call = folded(scored(n, 0.0, model=Model("m", str(n), "fp32")) for n in range(REVISIONS))
    assert [turn.revision for turn in call.turns] == list(range(REVISIONS))
    late = scored(99, 0.0, model=Model("m", "new", "fp32"))  # 910 s later: the others are no longer kept
    later = advance(call, late)
    assert later.revisions[later.turns[-1].revision] == "m@new"
    assert len(set(later.revisions)) == REVISIONS
    kept = [later.revisions[turn.revision] for turn in later.turns]
    assert len(set(kept)) == len(kept), "none of the turns that are kept has lost its revision"
