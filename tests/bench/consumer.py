"""What a user would write instead of the stream: a kafka-python consumer that calls transformers.pipeline."""

import json
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, KafkaProducer

from tests.bench.contender import Setup
from tests.bench.jobs import Job
from tests.bench.peers import Rows, pipeline


class consumer:  # noqa: N801 (named like the other kinds)
    """Reads, scores for each segment or in batches, produces, and commits once what it polled is delivered. It keeps no
    state, knows no rule, and counts from its first message on."""

    calibrated = False

    def __init__(self, job: Job, setup: Setup) -> None:
        self.scorer, self.batch = pipeline(job, setup), job.batch

    def score(self, texts: Sequence[str]) -> Rows:
        return self.scorer.score(texts)

    def run(self, texts: Sequence[str], told: Any) -> dict[str, Any]:
        """`told`: bootstrap, topic, out, group, count."""
        reader = KafkaConsumer(
            told["topic"],
            bootstrap_servers=told["bootstrap"],
            group_id=told["group"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        done, began = 0, 0.0
        with closing(reader), closing(KafkaProducer(bootstrap_servers=told["bootstrap"])) as producer:
            while done < told["count"]:
                polled = reader.poll(timeout_ms=500, max_records=told["count"] - done)
                messages = [message for part in polled.values() for message in part]
                began = began or (time.perf_counter() if messages else 0.0)
                for start in range(0, len(messages), self.batch):
                    self._pass_on(messages[start : start + self.batch], producer, told["out"])
                if messages:
                    producer.flush()
                    reader.commit()
                done += len(messages)
            return {"seconds": time.perf_counter() - began}

    def _pass_on(self, messages: Sequence[Any], producer: Any, topic: str) -> None:
        segments = [json.loads(message.value) for message in messages]
        rows = self.score([segment["text"] for segment in segments])
        for message, segment, row in zip(messages, segments, rows, strict=True):
            producer.send(topic, key=message.key, value=json.dumps(segment | {"scores": row}).encode())
