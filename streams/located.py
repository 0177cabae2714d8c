"""A YAML document as plain values, and the line on which each of them stands. Pure.

YAML 1.2's plain words: true and false are the only booleans (`no` is a language, `on` a word), a time of day is text. A key
that is written twice is a fault, which PyYAML would pass over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_NODES = 100_000  # aliases may be nested: a file of a few lines would fill the memory
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong on a line, and the way out; `file` as the user named it."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(slots=True)
class Document:
    """`lines` has the line (from 1) of every value by its path, keys and indices from the root."""

    file: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of a value; of what is not there, that of the nearest that should hold it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, text: str) -> None:
        self.faults.append(Fault(self.file, self.line(path), text))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 (PyYAML's own way)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    for _letter in _first:
        _Loader.yaml_implicit_resolvers.setdefault(_letter if _letter != "\0" else "", []).append(
            (f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"))
        )


def parse(text: str, file: str) -> Document:
    """The document, with its faults; `value` is None where there is nothing or it is no YAML."""
    document = Document(file)
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            document.value = _Reader(document).read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.faults.append(Fault(file, mark.line + 1 if mark else 1, f"this is no YAML: {error.problem or error.context}"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        document.faults.append(Fault(file, 1, f"this is no YAML: {str(error).splitlines()[0]}"))
    return document


class _Reader:
    def __init__(self, document: Document) -> None:
        self.document, self.count = document, 0

    def read(self, node: Any, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_NODES:
            raise yaml.YAMLError(f"more than {MAX_NODES:,} values; write fewer, or use fewer aliases")
        self.document.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return {key: self.read(value, (*path, key)) for key, value in self._pairs(node, path)}
        if isinstance(node, yaml.SequenceNode):
            return [self.read(value, (*path, i)) for i, value in enumerate(node.value)]
        return _scalar(node)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value in node.value:
            key = joined(str(key_node.value))
            place = (*path, key)
            self.document.lines[place] = key_node.start_mark.line + 1
            if key in seen:
                self.document.fault(place, f"`{key}` is here twice: remove one")
            seen.add(key)
            yield key, value


def _scalar(node: yaml.ScalarNode) -> str | int | float | bool | None:
    kind = node.tag.rpartition(":")[2]
    text: str = node.value
    if kind == "bool":
        return text.lower() == "true"
    if kind == "null":
        return None
    if kind == "int" and len(text) <= 18:
        return int(text)
    return float(text) if kind in ("int", "float") else joined(text)


def joined(text: str) -> str:
    """With the halves that JSON's escapes write of one character put together; a half alone becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
