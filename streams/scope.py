"""Which calls a rule is for. Pure."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from streams import language
from streams.look import Look
from streams.records import Scalar


def scope(wanted: language.Scope) -> Callable[[Look], bool] | None:
    channel, languages = _globs(wanted.channel), _globs(wanted.language)
    attributes = {name: _globs(globs) for name, globs in wanted.attributes.items()}
    if not (channel or languages or attributes):
        return None

    def applies(look: Look) -> bool:
        return (
            (not channel or _matches(look.call.channel, channel))
            and (not languages or _speaks(look.watches.language, languages))
            and all(_matches(look.call.attributes.get(name), globs) for name, globs in attributes.items())
        )

    return applies


def _globs(given: language.Globs | None) -> tuple[str, ...]:
    if given is None:
        return ()
    return tuple(_written_out(glob) for glob in (given if isinstance(given, list) else [given]))


def _written_out(value: Scalar) -> str:
    """An attribute's value as a glob sees it: true, false, a number without a needless ".0"."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _matches(value: Scalar, globs: tuple[str, ...]) -> bool:
    return value is not None and any(fnmatchcase(_written_out(value), glob) for glob in globs)


def _speaks(tag: str | None, globs: tuple[str, ...]) -> bool:
    """BCP 47, whatever its capitals: a range such as "ko" takes "ko-KR", too (RFC 4647, basic filtering)."""
    known = (tag or "").casefold()
    return bool(known) and any(fnmatchcase(known, g) or known.startswith(f"{g}-") for g in (glob.casefold() for glob in globs))


def typed(value: Scalar) -> Any:
    """True, 1 and 1.0 are one key of a dict, and three for a glob."""
    return value if isinstance(value, str) else (type(value), value)
