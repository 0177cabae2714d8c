"""The contract as documents: a JSON Schema for each record, and an AsyncAPI 3 document of the topics. Pure but for `write`.

They lie in streams/schemas/ as part of the package; `python -m streams.contract` writes them anew from the records, and a test
holds the two equal. An output's schema says what callpulse writes; all of its fields are always there, required or not. The
input's says what is accepted; limits in bytes, and that an end is not before its start, no schema can say.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec

from streams import __version__
from streams.records import Alert, Reason, Scored, Segment, Summary
from streams.rejected import NAMES
from streams.settings import Settings
from streams.wire import MAX_ID, MAX_TEXT, schema_id

Schema = dict[str, Any]

FOLDER = Path(__file__).parent / "schemas"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
INPUT = "callpulse.segment.v1"
OUTPUTS: Mapping[str, type] = {
    "callpulse.sentiment.v1": Scored,
    "callpulse.alert.v1": Alert,
    "callpulse.summary.v1": Summary,
}
SHORT = ("segment_id", "participant_id", "language", "channel", "reason")
KAFKA = {"bindingVersion": "0.5.0"}
CLOUD_EVENT = ("specversion", "id", "type", "source", "subject", "time", "dataschema")


def schema(name: str) -> Schema:
    """The JSON Schema of a message by its name: callpulse.segment.v1 or one of OUTPUTS."""
    body = _input() if name == INPUT else _output(name)
    return {"$schema": DIALECT, "$id": schema_id(name)} | body


def _generated(record: type) -> Schema:
    """msgspec's schema with the record itself at the root, not behind a reference."""
    made = json.loads(msgspec.json.encode(msgspec.json.schema(record)), object_hook=_plain)  # as it will be read: no tuples
    definitions = made["$defs"]
    body: Schema = definitions.pop(record.__name__)
    return body | ({"$defs": definitions} if definitions else {})


def _plain(node: Schema) -> Schema:
    """Without a default that says nothing."""
    return {key: value for key, value in node.items() if (key, value) != ("default", {})}


def _output(name: str) -> Schema:
    body = _generated(OUTPUTS[name])
    body["properties"]["schema"] = {"const": name}
    return body


def _input() -> Schema:
    """What the decoder accepts beyond the record: null for absence, `is_final`; and what it holds a message to."""
    body = _generated(Segment)
    fields: dict[str, Schema] = {name: _or_null(given) for name, given in body["properties"].items()}
    fields["is_final"] = _or_null({"type": "boolean"}) | {"description": "read where there is no `final`"}
    fields["call_id"] = {"type": "string", "pattern": r"\S", "maxLength": MAX_ID}
    fields["text"]["anyOf"][0] = {"type": "string", "maxLength": MAX_TEXT}
    for short in SHORT:
        fields[short]["anyOf"][0] = {"type": "string", "maxLength": MAX_ID}
    said = {"speaker": {"type": "string"}, "text": {"type": "string"}}
    an_event = {"required": ["type"], "properties": {"type": {"enum": ["start", "update", "end"]}}}
    spoken = {"required": ["speaker", "text"], "properties": said}
    return body | {"properties": fields, "if": an_event, "else": spoken}


def _or_null(given: Schema) -> Schema:
    default = {"default": given["default"]} if "default" in given else {}
    options = given.get("anyOf") or [{key: value for key, value in given.items() if key != "default"}]
    null = {"type": "null"}
    return {"anyOf": [*options, *([] if null in options else [null])]} | default


def asyncapi() -> Schema:
    """The topics under the default prefix, as callpulse sees them: it receives segments and sends the rest."""
    about = "Streaming sentiment of contact-centre calls. A version only gains optional fields: ignore unknown ones."
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "callpulse", "version": __version__, "description": about, "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic, text) for topic, text in TOPICS.items()},
        "operations": {
            f"{'receive' if topic == 'segments' else 'send'}_{topic}": {
                "action": "receive" if topic == "segments" else "send",
                "channel": {"$ref": f"#/channels/{topic}"},
            }
            for topic in TOPICS
        },
        "components": {"messages": {n: _message(n) for names in PAYLOADS.values() for n in names} | _FREE},
    }


TOPICS = {
    "segments": "Input: transcribed utterances, and what the telephone system knows of a call.",
    "sentiment": "Every valid input with its sentiment.",
    "alerts": "Events in the life of an alert. De-duplicate by the header ce_id.",
    "summaries": "A call that is over. De-duplicate by the header ce_id.",
    "state": "The state of each live call, and how far its partition is judged: callpulse's own, its shape may change.",
    "rejected": "Bad input: key, value and headers as they were, then headers that say where it was found and why it is there.",
}
PAYLOADS: Mapping[str, Sequence[str]] = {
    "segments": (INPUT,),
    "sentiment": ("callpulse.sentiment.v1",),
    "alerts": ("callpulse.alert.v1",),
    "summaries": ("callpulse.summary.v1",),
    "state": (),
    "rejected": (),
}
"""The messages of each topic that have a schema; calls.rejected may hold anything, and calls.state is callpulse's own."""


def _channel(topic: str, about: str) -> Schema:
    return {
        "address": Settings().topic(topic),
        "description": about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in PAYLOADS[topic] or (topic,)},
        "bindings": {"kafka": KAFKA},
    }


def _message(name: str) -> Schema:
    key = {"type": "string", "description": "call_id in UTF-8"}
    message: Schema = {"name": name, "payload": {"$ref": f"./{name}.json"}}
    if name in ("callpulse.alert.v1", "callpulse.summary.v1"):
        message["headers"] = _headers(*(f"ce_{attribute}" for attribute in CLOUD_EVENT), "content-type")
        message["headers"]["properties"] |= {"ce_type": {"const": name}, "ce_dataschema": {"const": schema_id(name)}}
    return message | {"bindings": {"kafka": KAFKA | {"key": key}}}


def _headers(*names: str) -> Schema:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}


_FREE: Schema = {"state": {"name": "state"}, "rejected": {"name": "rejected", "headers": _headers(*NAMES)}}
_FREE["rejected"]["headers"]["properties"]["callpulse-reason"] = {"enum": sorted(get_args(Reason))}


def documents() -> dict[str, str]:
    """Every document by the name of its file."""
    made = {name: schema(name) for name in (INPUT, *OUTPUTS)} | {"asyncapi": asyncapi()}
    return {f"{name}.json": json.dumps(document, ensure_ascii=False, indent=2) + "\n" for name, document in made.items()}


@cache
def shipped(name: str) -> str:
    """A document as it lies in the package: "asyncapi", or the name of a schema."""
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def write(folder: Path = FOLDER) -> list[str]:
    """Writes all documents, removes others; returns the names of those that have changed."""
    folder.mkdir(exist_ok=True)
    before = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    made = documents()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in before.keys() - made.keys():
        (folder / name).unlink()
    return sorted(name for name in before.keys() | made.keys() if before.get(name) != made.get(name))


if __name__ == "__main__":
    print("\n".join(write()) or "nothing has changed")
