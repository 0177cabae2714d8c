"""What is known of a call beside what is said: attributes, bounded. Pure."""

from collections.abc import Mapping

from streams.records import Scalar

MAX_ATTRIBUTES = 1_000  # bytes (UTF-8) of a call's attributes, names and values


def merged(known: Mapping[str, Scalar], news: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The last value wins, null deletes; what was set longest ago goes first when there are too many."""
    both = {k: v for k, v in known.items() if k not in news} | {k: v for k, v in news.items() if v is not None}
    sizes = {k: attribute_size(k, v) for k, v in both.items()}
    while sum(sizes.values()) > MAX_ATTRIBUTES:
        oldest = next(iter(sizes))
        del sizes[oldest], both[oldest]
    return both


def attribute_size(name: str, value: Scalar) -> int:
    """In bytes, as MAX_ATTRIBUTES counts."""
    return len(f"{name}{value}".encode())
