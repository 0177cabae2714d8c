"""The states of a partition's calls: as a dict of them, but encoded until they are touched."""

import json

import msgspec
import pytest
from builders import T0, event, scored
from hypothesis import given
from hypothesis import strategies as st

from streams import held
from streams.conversation import Conversation, Limits
from streams.held import States
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Scored
from streams.wire import encode


def call(name: str, heard: int) -> Conversation:
    return Conversation(call_id=name, clock=T0, lane="l", origin_ms=T0, origin="call", positions={"l": heard})


names, heard = st.sampled_from("abcdef"), st.integers(0, 9)


@given(st.lists(st.tuples(st.sampled_from(("put", "set", "get", "del")), names, heard), max_size=40))
def test_states_are_what_a_dict_of_them_would_be(steps: list[tuple[str, str, int]]) -> None:
    states, model = States(), dict[str, Conversation]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held, "OPEN", 2)
        for step, name, n in steps:
            if step == "put" and name not in model:
                states.put(name, encode(call(name, n)))
                model[name] = call(name, n)
            elif step == "set":
                states[name] = model[name] = call(name, n)
            elif step == "del" and name in model:
                del states[name], model[name]
            if name in model:
                assert (states.seen(name), states.timing(name).clock) == (model[name], T0)
            assert states.get(name) == model.get(name)
            assert len(states) == len(model)
        assert states == model


def judged(calls: Calls, turns: list[Scored]) -> Outcome:
    outcome = Outcome()
    for turn in turns:
        calls.judge(turn, outcome)
    return outcome


def test_calls_that_were_loaded_go_on_as_if_they_had_been_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "OPEN", 3)
    turns = [scored(n, n % 3 - 1, call_id=f"c{n % 10}", timestamp=T0 + n) for n in range(200)]
    turns += [event(200 + n, "end", call_id=f"c{n}", timestamp=T0 + 200) for n in range(5)]
    here, there = Calls(Limits(), 4), Calls(Limits(), 4)
    judged(here, turns[:170])
    judged(there, turns[:170])
    loaded = Calls(Limits(), 4, positions=there.positions)
    loaded.load([encode(state) for state in there.calls.values()])
    assert loaded.next_due() == Calls(Limits(), 4, there.calls.values()).next_due()
    outcomes = [judged(calls, turns[170:]) for calls in (here, loaded)]
    for calls, outcome in zip((here, loaded), outcomes, strict=True):
        calls.tick({"topic:0": T0 + Limits().voice_silence_ms // 2}, outcome)
    assert outcomes[0] == outcomes[1]
    assert here.calls == loaded.calls


def test_a_loaded_state_is_not_decoded_before_it_is_touched() -> None:
    state = {"call_id": "c", "clock": T0, "lane": "topic:0", "status": "live", "recent": "to be decoded when it is needed"}
    calls = Calls(Limits(), 1)
    calls.load([json.dumps(state).encode()])
    assert calls.next_due() == {"topic:0": T0 + Limits().voice_silence_ms}
    with pytest.raises(msgspec.ValidationError):
        calls.calls["c"]
