"""The plan of retries: what fails as a whole is tried again in parts, so that one text never fails its batch-mates. Pure."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from models.staged import Failure

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def halves(items: Sequence[Item]) -> list[Sequence[Item]]:
    """The two halves of at least two items; no parts of one."""
    middle = len(items) // 2
    return [items[:middle], items[middle:]] if middle else []


def attempt(
    items: Sequence[Item],
    act: Callable[[Sequence[Item]], Outcome],
    split: Callable[[Sequence[Item], Exception], Sequence[Sequence[Item]]],
) -> Iterator[tuple[Sequence[Item], Outcome | Failure]]:
    """Acts on all items at once; when that raises, on the parts that `split` names, and so on. Yields what was acted on and
    its outcome as soon as it is there; each item is in one part. A part that has no parts is a Failure (or several).

    `split` gets what failed and why; it returns smaller parts that make up the whole, or none to give up.
    """
    todo = deque([items])
    while todo:
        part = todo.popleft()
        outcome: Outcome | Failure
        try:
            outcome = act(part)
        except Exception as error:
            if parts := split(part, error):
                todo.extendleft(reversed(parts))
                continue
            outcome = Failure(type(error).__name__)
        yield part, outcome
