"""What is kept of a rejected record; what becomes of a transaction whose end nobody knows."""

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError
from msgspec.structs import replace

from streams.errors import DeliveryError, FencedError
from streams.publisher import Outgoing, Transactions, rejected_record
from streams.records import Record, Rejected

RECORD = Record("calls.segments", 5, 7, 0, b"key", b"value", (("trace", b"\xff"), ("nothing", None)))
PLACE = (("callpulse-topic", b"calls.segments"), ("callpulse-partition", b"5"), ("callpulse-offset", b"7"))


def test_a_rejected_record_is_kept_as_it_was_with_where_and_why() -> None:
    kept = rejected_record("calls.rejected", 4, RECORD, Rejected("not_json", "detail"), "score")
    why = (("callpulse-stage", b"score"), ("callpulse-reason", b"not_json"), ("callpulse-detail", b"detail"))
    assert kept == Outgoing("calls.rejected", 1, b"key", b"value", (*RECORD.headers, *PLACE, *why))


@pytest.mark.parametrize("large", ["key", "value", "headers"])
def test_of_a_rejected_record_that_no_topic_takes_only_where_and_why_are_kept(large: str) -> None:
    much = b"x" * 1_000_000
    record = replace(RECORD, **{large: (("much", much),) if large == "headers" else much})  # type: ignore[arg-type]
    kept = rejected_record("calls.rejected", 1, record, Rejected("too_large", "detail"), "score")
    assert (kept.partition, kept.key, kept.value) == (0, None, None)
    assert kept.headers[:3] == PLACE
    assert len(kept.headers) == 6


class Broken:
    """A producer whose commit ends as aiokafka's does: what went wrong, behind two errors that say nothing."""

    def __init__(self, cause: KafkaError) -> None:
        self.cause = cause

    async def begin_transaction(self) -> None:
        pass

    async def commit_transaction(self) -> None:
        try:
            raise KafkaError("find coordinator") from self.cause
        except KafkaError as error:
            raise KafkaError("unexpected error") from error


@pytest.mark.parametrize(
    ("cause", "fenced"),
    [
        (KafkaConnectionError("closed"), True),
        (MessageSizeTooLargeError(), False),
        (UnknownTopicOrPartitionError(), False),
    ],
)
def test_a_partition_is_opened_anew_where_the_broker_went_away_amid_its_transaction(cause: KafkaError, fenced: bool) -> None:
    async def publish() -> None:
        transactions = Transactions.__new__(Transactions)  # with no connection to close
        producer: Any = Broken(cause)
        transactions._producer = producer
        await transactions.publish()

    with pytest.raises(DeliveryError) as caught:
        asyncio.run(publish())
    assert isinstance(caught.value, FencedError) is fenced
