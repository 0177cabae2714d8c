"""What the log leaves out of what the libraries say."""

import logging

from streams.logs import QUIET_S, Repeats


def record(name: str, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, None)


def test_a_library_s_message_comes_once_in_a_while_with_how_many_were_left_out() -> None:
    now = [0.0]
    repeats = Repeats(clock=lambda: now[0])
    said = [repeats.filter(record("aiokafka.client", "no node %s", n)) for n in range(1_001)]
    now[0] = QUIET_S
    last = record("aiokafka.client", "no node %s", 7)
    assert said == [True] + [False] * 1_000
    assert repeats.filter(last)
    assert last.getMessage() == "no node 7 (and 1,000 more like this)"


def test_other_messages_and_our_own_are_never_left_out() -> None:
    repeats = Repeats(clock=lambda: 0.0)
    assert repeats.filter(record("aiokafka.client", "one"))
    assert repeats.filter(record("aiokafka.client", "another"))
    assert repeats.filter(record("aiokafka.consumer", "one"))
    assert all(repeats.filter(record("callpulse.worker", "the same")) for _ in range(3))
