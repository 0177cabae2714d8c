"""How conditions are decided: comparisons (a number means at least; gte, gt, lte, lt), and all, any, not of several. Pure."""

from collections.abc import Callable, Sequence

from streams.language import Compare
from streams.look import Look

Check = Callable[[float], bool]
Holds = Callable[[Look], bool]
SIGNS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}


def bounds(compare: float | Compare) -> list[tuple[str, float]]:
    """(sign, bound) of each bound that is given; a number alone means at least."""
    if not isinstance(compare, Compare):
        return [(">=", compare)]
    return [(sign, bound) for name, sign in SIGNS.items() if (bound := getattr(compare, name)) is not None]


def checked(compare: float | Compare) -> Check:
    single: dict[str, Callable[[float], Check]] = {
        ">=": lambda bound: lambda value: value >= bound,
        ">": lambda bound: lambda value: value > bound,
        "<=": lambda bound: lambda value: value <= bound,
        "<": lambda bound: lambda value: value < bound,
    }
    checks = [single[sign](bound) for sign, bound in bounds(compare)]
    return checks[0] if len(checks) == 1 else lambda value: all(check(value) for check in checks)


def text(compare: float | Compare) -> str:
    return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds(compare))


def holds(read: Callable[[Look], float | None], compare: float | Compare) -> Holds:
    given = bounds(compare)
    sign, bound = given[0]

    def at_least(look: Look) -> bool:
        return (value := read(look)) is not None and value >= bound

    def at_most(look: Look) -> bool:
        return (value := read(look)) is not None and value <= bound

    def every(look: Look) -> bool:
        return (value := read(look)) is not None and check(value)

    check = checked(compare)
    return every if len(given) > 1 else {">=": at_least, "<=": at_most}.get(sign, every)


def all_of(holds: Sequence[Holds]) -> Holds:
    def every(look: Look) -> bool:
        for each in holds:  # noqa: SIM110 (a third faster than all(); this runs for every rule at every turn)
            if not each(look):
                return False
        return True

    return every


def any_of(holds: Sequence[Holds]) -> Holds:
    def some(look: Look) -> bool:
        for each in holds:  # noqa: SIM110
            if each(look):
                return True
        return False

    return some


def none_of(holds: Sequence[Holds]) -> Holds:
    only = holds[0]
    return lambda look: not only(look)
