"""The documents of the contract: equal to what the records give, true to what is written and read, kept since each release."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import event, scored
from compatibility import Schema, broken
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_live import alert, summary

from streams.contract import FOLDER, INPUT, OUTPUTS, asyncapi, documents, schema, shipped, write
from streams.conversation import Limits
from streams.pipeline import judged
from streams.records import Alert, Record, Rejected, Segment, Summary
from streams.wire import cloud_event, decode, encode, rejection

RELEASED = sorted((Path(__file__).parent / "released").glob("*/*.json"))
NAMES = (INPUT, *OUTPUTS)


def valid(name: str, value: object) -> bool:
    return bool(Draft202012Validator(schema(name)).is_valid(value))


def test_what_is_shipped_is_what_the_records_give() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()} == documents(), (
        "run `python -m streams.contract` and see what has changed"
    )
    assert shipped("asyncapi") == documents()["asyncapi.json"]


def test_writing_says_what_has_changed_and_removes_what_is_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    assert write(folder) == sorted(documents())
    assert write(folder) == []
    (folder / "old.json").write_text("{}")
    (folder / "asyncapi.json").write_text("{}")
    assert write(folder) == ["asyncapi.json", "old.json"]
    assert write(folder) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def records() -> Iterator[Any]:
    """Some of each kind, with their optional parts and without."""
    turns = [scored(n, -0.9, attributes={"queue": "q", "n": 1, "f": 1.5, "b": True}) for n in range(9)]
    outcome = judged([*turns, event(9, "end", reason="hangup")], Limits())
    assert {a.event for a in outcome.alerts} >= {"open", "resolve"}
    yield from [*turns, event(9, "end"), *outcome.alerts, *outcome.summaries]
    yield from [alert(), summary(), alert(call_url="https://crm.example/1"), summary(score=None, reason=None)]


def test_what_callpulse_writes_is_valid_and_has_no_field_that_the_schema_lacks() -> None:
    seen = set()
    for record in records():
        value = json.loads(encode(record))
        assert [error.message for error in Draft202012Validator(schema(value["schema"])).iter_errors(value)] == []
        assert value.keys() == schema(value["schema"])["properties"].keys()
        seen.add(value["schema"])
    assert seen == OUTPUTS.keys()


@pytest.mark.parametrize("record", [alert(), summary()])
def test_the_data_schema_of_an_event_is_the_id_of_its_schema(record: Alert | Summary) -> None:
    headers = {name: (value or b"").decode() for name, value in cloud_event(record)}
    assert headers["ce_dataschema"] == json.loads(shipped(headers["ce_type"]))["$id"]
    message = asyncapi()["components"]["messages"][record.schema]
    assert list(headers) == message["headers"]["required"]
    assert Draft202012Validator(message["headers"]).is_valid(headers)


def test_the_headers_of_a_rejection_are_the_document_s() -> None:
    found = rejection(Record("t", 0, 1, 2, None, b""), Rejected("not_json", "no"), "score")
    headers = {name: (value or b"").decode() for name, value in found}
    document = asyncapi()["components"]["messages"]["rejected"]["headers"]
    assert list(headers) == document["required"]
    assert Draft202012Validator(document).is_valid(headers)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi()

    def references(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            yield from (part[key] for key in part if key == "$ref")
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from references(inner)

    found = set(references(document))
    assert {f"./{name}.json" for name in NAMES} <= found
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/") if reference.startswith("#/") else ():
            target = target[step]
        assert reference.startswith("#/") or (FOLDER / reference).is_file()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {f"calls.{name}" for name in ("segments", "sentiment", "state", "alerts", "summaries", "rejected")}


TEXT = st.sampled_from(["", "c-1", " ", "customer", "x" * 257, "x" * 10_001])
VALUE = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([1.0, 1.5, -0.5, 1e12]), TEXT)
SHORT = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.just("x"), st.just([]))
FREE = "segment_id participant_id start_ms final is_final language channel reason new"
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(FREE.split(), VALUE),
    "type": st.sampled_from(["segment", "start", "end", None, "other"]),
    "attributes": st.one_of(VALUE, st.dictionaries(st.sampled_from("ab"), SHORT)),
}
NEEDED = {"call_id": VALUE, "speaker": st.sampled_from(["customer", "bot", None, "boss"]), "text": VALUE}
LIKELY = {"call_id": st.just("c-1"), "speaker": st.sampled_from(["customer", "agent"]), "text": st.just("hello")}


@given(st.one_of(st.fixed_dictionaries({}, optional=FIELDS | NEEDED), st.fixed_dictionaries(LIKELY, optional=FIELDS)))
def test_the_input_s_schema_and_the_decoder_accept_the_same(message: dict[str, Any]) -> None:
    accepted = isinstance(decode(json.dumps(message).encode()), Segment)
    assert valid(INPUT, message) is accepted


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_an_input_is_an_object(value: object) -> None:
    assert not valid(INPUT, value)


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_but_optional_fields_has_come_since_a_release(released: Path) -> None:
    old = json.loads(released.read_text(encoding="utf-8"))
    assert broken(old, schema(released.stem)) == []


def test_every_public_schema_is_among_those_of_a_release() -> None:
    assert {path.stem for path in RELEASED} == {INPUT, *OUTPUTS}


def objects(part: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a schema objects with fields are described."""
    if isinstance(part, dict) and "properties" in part and part.get("type") == "object":
        yield at
    for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from objects(inner, (*at, key))


def described(whole: Schema, at: tuple[Any, ...]) -> Schema:
    for step in at:
        whole = whole[step]
    return whole


PLACES = [(name, at) for name in (INPUT, *OUTPUTS) for at in objects(schema(name))]


@pytest.mark.parametrize(("name", "at"), PLACES, ids=str)
def test_a_break_anywhere_is_noticed_and_an_optional_field_is_none(name: str, at: tuple[Any, ...]) -> None:
    old = schema(name)
    for field in described(old, at)["properties"]:
        removed, other, required = copy.deepcopy(old), copy.deepcopy(old), copy.deepcopy(old)
        del described(removed, at)["properties"][field]
        described(other, at)["properties"][field] = {"type": "null"}
        was = described(required, at).setdefault("required", [])
        was.remove(field) if field in was else was.append(field)
        for new, said in ((removed, "removed"), (other, "has become"), (required, "required")):
            assert any(f"{field}: " in line and said in line for line in broken(old, new)), (field, said)
    grown = copy.deepcopy(old)
    described(grown, at)["properties"]["new"] = {"type": "string"}
    described(grown, at)["description"] = "said otherwise"
    assert broken(old, grown) == []
    described(grown, at).setdefault("required", []).append("new")
    assert [line.split(".")[-1] for line in broken(old, grown)] == ["new: newly required"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"enum": ["a", "b"]}, {"enum": ["a"]}),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}),
        ({"type": "integer"}, {"type": "number"}),
        ({"type": "string"}, {"type": "string", "maxLength": 9}),
        ({"type": "array", "items": {"type": "string"}}, {"type": "array", "items": {"type": "integer"}}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"type": "object"}),
        ({"type": "object"}, {"type": "object", "additionalProperties": False}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"type": "string"}]}),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}, {"$ref": "#/$defs/A", "$defs": {"A": {"type": "null"}}}),
    ],
)
def test_what_is_narrower_or_wider_is_a_break(old: Schema, new: Schema) -> None:
    assert broken(old, new) != []
    assert broken(old, copy.deepcopy(old)) == []


def test_a_type_that_only_moved_behind_a_name_is_none() -> None:
    named = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string", "title": "A"}}}
    assert broken({"properties": {"a": {"type": "string"}}}, named) == []
