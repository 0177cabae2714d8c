"""What is counted: one object a worker, written by its agents, read by its progress line."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counts:
    """Since the worker's start. `cached`: scores that were remembered, of the same text; `batches` and `tokens`: what the model
    did for the others; `mis_keyed`: inputs whose key was not their call's, set right on the way; `lost`: records that
    retention had deleted before they were read."""

    received: int = 0
    scored: int = 0
    skipped: int = 0
    cached: int = 0
    batches: int = 0
    tokens: int = 0
    rejected: int = 0
    mis_keyed: int = 0
    judged: int = 0
    repeats: int = 0
    alerts: int = 0
    summaries: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, name):,} {name.replace('_', '-')}" for name in self.__slots__ if getattr(self, name))
