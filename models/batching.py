"""Batches by the scarce thing: tokens after padding, not rows."""

from collections.abc import Iterable, Sequence

BUDGETS = {"cpu": 2048, "cuda": 32768}
"""Padded tokens a batch by default, by the kind of device: with more a token takes hardly less time there."""


def plan(lengths: Sequence[int], budget: int, max_rows: int | None = None) -> list[list[int]]:
    """Groups texts of similar length so that no batch holds more than `budget` padded tokens.

    `lengths` are tokens per text. Returns batches of indices into it, longest texts first; each index occurs once. A batch
    costs rows x its longest text; a text that is over the budget by itself gets a batch of its own. `max_rows` bounds the rows.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        full = (
            not batches
            or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget
            or (max_rows is not None and len(batches[-1]) >= max_rows)
        )
        if full:
            batches.append([])
        batches[-1].append(index)
    return batches


def take(lengths: Iterable[int], budget: int) -> int:
    """How many of the waiting texts, oldest first, fit into `budget` tokens: at least one where there is any."""
    total = count = 0
    for length in lengths:
        total += length
        if count and total > budget:
            break
        count += 1
    return count
