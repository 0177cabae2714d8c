"""Looks into the topics of a compose run, from within one of its containers: what came, what is missing, what is left to do.

lost.py alert     waits for the first alert, and prints after how many seconds of the wall's clock since 1970 it was seen
lost.py settled   waits until all segments are accounted for and all offsets are committed; exit code 1 if they never are
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

from kafka import TopicPartition

from streams import topics
from streams.records import Record
from streams.settings import Settings, from_mapping

PATIENCE_S = 50.0
POLL_S = 0.5


def alert(settings: Settings) -> int:
    for _ in topics.tail(settings, settings.topic("alerts"), follow=True):
        print(f"{time.time():.1f}")
        return 0
    return 1


def settled(settings: Settings) -> int:
    deadline, found = time.monotonic() + PATIENCE_S, look(settings)
    while found["lost"] or found["lag"]:
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_S)
        found = look(settings)
    print(json.dumps(found))
    return 1 if found["lost"] or found["lag"] or found["alerts_twice"] else 0


def look(settings: Settings) -> dict[str, int]:
    sent = {(r.partition, r.offset) for r in records(settings, "segments")}
    scored, refused = Counter(map(source, records(settings, "sentiment"))), set(map(origin, records(settings, "rejected")))
    alerts = Counter(dict(r.headers)["ce_id"] for r in records(settings, "alerts"))
    return {
        "segments": len(sent),
        "scored": len(scored),
        "rejected": len(refused),
        "lost": len(sent - scored.keys() - refused),
        "scored_twice": scored.total() - len(scored),
        "alerts": len(alerts),
        "alerts_twice": alerts.total() - len(alerts),
        "lag": lag(settings, "score", "segments") + lag(settings, "judge", "sentiment"),
    }


def records(settings: Settings, name: str) -> Iterator[Record]:
    return topics.tail(settings, settings.topic(name), follow=False)


def source(record: Record) -> tuple[int, int]:
    place = json.loads(record.value or b"")["source"]
    return place["partition"], place["offset"]


def origin(record: Record) -> tuple[int, int]:
    headers = dict(record.headers)
    return int(headers["callpulse-partition"] or b""), int(headers["callpulse-offset"] or b"")


def lag(settings: Settings, role: str, name: str) -> int:
    """Records of a topic that the role's group has not committed."""
    topic, reader = settings.topic(name), topics.consumer(settings, f"{settings.group}-{role}")
    try:
        places = [TopicPartition(topic, p) for p in sorted(reader.partitions_for_topic(topic) or ())]
        return sum(end - (reader.committed(place) or 0) for place, end in reader.end_offsets(places).items())
    finally:
        reader.close()


if __name__ == "__main__":
    sys.exit({"alert": alert, "settled": settled}[sys.argv[1]](from_mapping({}, os.environ)))
