"""What brokers refuse, in words: a connection, or a right to a topic, a group or a transactional id.

The clients hide most of it. They try to connect until their time is up and then no longer know why, and a right that is
missing shows when it is first needed, or as an error without a name.
"""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import BrokerError, DeliveryError
from streams.security import CONNECT_S, aio_client
from streams.settings import Settings

CLOSE_S = 1.0

Right = tuple[str, str, str]
"""An operation, a kind of resource, the resource's name: ("Read", "topic", "calls.segments")."""

SCORER = {"segments": {"Read"}, "sentiment": {"Write"}, "rejected": {"Write"}}
JUDGE = {
    "segments": {"Read"},
    "sentiment": {"Read"},
    "state": {"Read", "Write"},
    "alerts": {"Write"},
    "summaries": {"Write"},
    "rejected": {"Write"},
}
"""What the two agents of a worker do to the topics."""

DENIED = {
    "TopicAuthorizationFailed": ("topic", ""),
    "GroupAuthorizationFailed": ("group", "Read"),
    "TransactionalIdAuthorizationFailed": ("transactional-id", "Write"),
    "ClusterAuthorizationFailed": ("cluster (from Kafka 3.0 on: Write on the topic is enough)", "IdempotentWrite"),
}
"""How either client names the errors: the kind of resource, and the operation where there is but one."""


def probe(settings: Settings, host: str, port: int) -> None:
    """Opens one connection as a client would. Raises BrokerError with the broker's reason and the way out."""
    arguments = aio_client(settings)
    del arguments["bootstrap_servers"]
    try:
        asyncio.run(_connect(host, port, arguments))
    except (OSError, KafkaError, asyncio.TimeoutError, ValueError) as error:
        raise BrokerError(f"{host}:{port}: {_reason(settings, error)}") from error


async def _connect(host: str, port: int, arguments: Mapping[str, Any]) -> None:
    connection = await create_conn(host, port, request_timeout_ms=int(CONNECT_S * 1000), **arguments)
    try:
        metadata = await connection.send(MetadataRequest([]))  # only now it shows that a certificate is missing
        if not metadata.brokers:  # aiokafka takes the refusal of a token for a success; what comes then is empty
            raise KafkaConnectionError("the token was refused")
    finally:
        await asyncio.wait([connection.close()], timeout=CLOSE_S)


def _reason(settings: Settings, error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the broker's certificate is not accepted: {error.verify_message}. Name the file of the authority that signed it "
            "with --ssl-ca-file or CALLPULSE_SSL_CA_FILE, and the broker by the name in its certificate"
        )
    if "AuthenticationFailed" in type(error).__name__:
        return f"{settings.sasl_mechanism} user {settings.sasl_username} is not let in: see to user and password. {error}"
    if "SaslMechanism" in type(error).__name__:
        return f"the broker does not offer {settings.sasl_mechanism}: choose another with --sasl-mechanism. {error}"
    cause = str(error) if isinstance(error, KafkaError) else f"{type(error).__name__}: {error}"
    known = f"no connection over {settings.security_protocol} ({cause}). See that --security-protocol is the listener's, "
    if settings.sasl_mechanism == "OAUTHBEARER":
        return known + f"and that it takes the tokens of {settings.sasl_token_provider}"
    return known + "and whether it asks for a certificate (--ssl-cert-file and --ssl-key-file)"


def denied(error: BaseException | None, to_topic: str = "Read") -> str | None:
    """Which right is missing, where that is what lies behind an error of either client; None where it is not. `to_topic` is
    what was about to be done to a topic, unless a DeliveryError on the way says that it was to be written."""
    while error is not None:
        if isinstance(error, DeliveryError):
            to_topic = "Write"
        for name, (kind, operation) in DENIED.items():
            if name in repr(error):  # the clients wrap some errors in others, as text
                return lacking([(operation or to_topic, kind, _named(error) if name in type(error).__name__ else "")])
        error = error.__cause__ or error.__context__
    return None


def _named(error: BaseException) -> str:
    """The resource that the error names: a string, or a set of them; aiokafka and kafka-python do not always name it."""
    named = error.args[0] if error.args else ""
    return named if isinstance(named, str) else ", ".join(sorted(map(str, named)))


def lacking(rights: Iterable[Right]) -> str:
    """A sentence that names them, with the way out."""
    names: dict[str, list[str]] = defaultdict(list)
    for operation, kind, name in sorted(rights):
        names[f"{operation} on {kind}"].append(name)
    said = ", ".join(f"{what} {', '.join(which)}".rstrip() for what, which in names.items())
    return f"the broker denies {said}. Grant it to this user (kafka-acls.sh --add); README's table says what each command needs"
