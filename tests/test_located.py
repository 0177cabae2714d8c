"""YAML as values with their lines, and what is no YAML."""

import pytest

from streams import located
from streams.located import Fault, parse


def test_values_and_the_lines_on_which_they_stand() -> None:
    document = parse("a: 1\nb:\n  - x: [1, 2]\n  - y:\n      z: 환불\n", "f.yaml")
    assert document.value == {"a": 1, "b": [{"x": [1, 2]}, {"y": {"z": "환불"}}]}
    assert [document.line(path) for path in ((), ("a",), ("b",), ("b", 0), ("b", 1, "y", "z"))] == [1, 1, 2, 3, 5]
    assert document.line(("b", 1, "w")) == 4, "what is missing is told where it should be"
    assert document.faults == []


def test_only_plain_words_of_yaml_1_2_are_more_than_text() -> None:
    document = parse(
        "[true, False, no, on, off, y, 1:30, 2026-01-01, 0x1f, 012, -7, +1, 2.5, .5, 1e3, ~, null, '1', 1_000]", "f"
    )
    texts = ["no", "on", "off", "y", "1:30", "2026-01-01", "0x1f"]
    assert document.value == [True, False, *texts, 12, -7, 1, 2.5, 0.5, 1000.0, None, None, "1", "1_000"]


def test_a_key_that_is_there_twice_is_a_fault() -> None:
    assert parse("a:\n  b: 1\n  c: 2\n  b: 3\n", "f").faults == [Fault("f", 4, "`b` is here twice: remove one")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1", 1),
        ("a: b\n c: d", 2),
        ("a: 'x\n", 2),
        ("a: *b", 1),
        ("%", 1),
        ("a: \x07", 1),
        ("--- a\n--- b", 2),
        ("a: !!int x", 1),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, line: int) -> None:
    document = parse(text, "f")
    assert document.value is None
    [fault] = document.faults
    assert (fault.file, fault.text[:15]) == ("f", "this is no YAML")
    assert fault.line == line
    assert str(fault).startswith(f"f:{line}: this is no YAML")


def test_nothing_is_nothing() -> None:
    assert (parse("", "f").value, parse("# only a comment\n", "f").value) == (None, None)


def test_an_alias_is_what_it_stands_for_and_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("a: &x [1, 2]\nb: *x\n", "f").value == {"a": [1, 2], "b": [1, 2]}
    monkeypatch.setattr(located, "MAX_NODES", 200)
    bomb = "a: &a [1, 2, 3]\n" + "".join(
        f"{name}: &{name} [*{last}, *{last}, *{last}]\n" for last, name in zip("abcdef", "bcdefg", strict=True)
    )
    [fault] = parse(bomb, "f").faults
    assert "more than 200 values" in fault.text


def test_nesting_beyond_reason_is_a_fault_and_no_crash() -> None:
    [fault] = parse("[" * 5_000 + "]" * 5_000, "f").faults
    assert "this is no YAML" in fault.text
