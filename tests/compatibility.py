"""Whether a schema has kept what an older one promised: it may gain optional fields, and nothing else.

Libraries answer another question: whether every document of one schema fits the other (jsonsubschema); then a field that is
newly required passes in one direction, and an optional field that is new fails in the other.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
SAID = {"title", "description", "$id", "$schema", "$defs", "examples"}  # for people
WALKED = {"properties", "required", "anyOf", "items", "additionalProperties", "$ref", "if", "else", "prefixItems"}


def broken(old: Schema, new: Schema) -> list[str]:
    """What in the new schema a user of the old one could stumble over: a line each, beginning with the place."""
    return list(_broken(old, new, (old, new), "$"))


def _broken(old: Any, new: Any, roots: tuple[Schema, Schema], at: str) -> Iterator[str]:
    if not isinstance(old, dict) or not isinstance(new, dict):
        if old != new:
            yield f"{at}: {old!r} has become {new!r}"
        return
    old, new = (_resolved(schema, root) for schema, root in zip((old, new), roots, strict=True))
    for key in sorted((old.keys() | new.keys()) - SAID - WALKED):
        if old.get(key) != new.get(key):
            yield f"{at}: {key} {old.get(key)!r} has become {new.get(key)!r}"
    yield from _fields(old, new, roots, at)
    for key in ("items", "additionalProperties", "if", "else"):
        yield from _broken(old.get(key), new.get(key), roots, f"{at}.{key}")
    for key in ("anyOf", "prefixItems"):
        olds, news = old.get(key, []), new.get(key, [])
        if len(olds) != len(news):
            yield f"{at}: {key} of {len(olds)} has become one of {len(news)}"
        for n, (one, other) in enumerate(zip(olds, news, strict=False)):
            yield from _broken(one, other, roots, f"{at}.{key}[{n}]")


def _fields(old: Schema, new: Schema, roots: tuple[Schema, Schema], at: str) -> Iterator[str]:
    olds, news = old.get("properties", {}), new.get("properties", {})
    for name in sorted(set(old.get("required", [])) ^ set(new.get("required", []))):
        yield f"{at}.{name}: {'newly' if name in new.get('required', []) else 'no longer'} required"
    for name in sorted(olds.keys() - news.keys()):
        yield f"{at}.{name}: removed"
    for name in sorted(olds.keys() & news.keys()):
        yield from _broken(olds[name], news[name], roots, f"{at}.{name}")


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Without a reference at its head; ours point into $defs, and into no circle."""
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return schema
