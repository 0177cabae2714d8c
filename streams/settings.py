"""Frozen settings, from flags and `CALLPULSE_*` variables. One place says what there is, its default and its help."""

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from streams.conversation import Limits
from streams.errors import SettingsError
from streams.pipeline import Policy
from streams.records import SPEAKERS
from streams.redact import Mask, hidden, kept, prepare, redact

FOREVER = 1e9  # seconds, or days: more is a typing error (so are nan and inf)
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SASL_PASSWORD = "CALLPULSE_SASL_PASSWORD"  # noqa: S105 (a name: secrets are no settings, and have no flag)
KEY_PASSWORD = "CALLPULSE_SSL_KEY_PASSWORD"  # noqa: S105


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True)
class Profile:
    """How to talk to a kind of broker; times in seconds. `batch_records` 0: as many as fit."""

    session_timeout: float
    heartbeat: float
    batch_records: int
    idempotent: bool
    transactions: bool


PROFILES = {
    "kafka": Profile(session_timeout=10, heartbeat=1, batch_records=0, idempotent=True, transactions=True),
    "embedded": Profile(session_timeout=6, heartbeat=1, batch_records=1, idempotent=False, transactions=False),
}
"""`embedded` is for the in-memory broker of the demo: one record a batch (its end offsets are wrong otherwise), short
sessions (a join waits for half of one), no idempotent producer and no transactions (it has none)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set; each field is a flag (`--batch-tokens`) and a variable (`CALLPULSE_BATCH_TOKENS`)."""

    bootstrap_servers: str = _setting("127.0.0.1:9092", "brokers to start from, host:port, comma-separated")
    broker: str = _setting("kafka", "kind of broker: kafka, or embedded (the demo's)")
    prefix: str = _setting("calls.", "what the names of the six topics begin with")
    group: str = _setting("callpulse", "consumer groups: GROUP-score, GROUP-judge, GROUP-retry")
    partitions: int = _setting(4, "partitions of a topic that is created")
    replication: int = _setting(-1, "replicas of a topic that is created (-1: the broker's default)")
    rejected_days: float = _setting(3.0, "days that calls.rejected is kept (when created)")
    start: str = _setting("latest", "where a group begins that never ran: latest, earliest or an RFC 3339 time")
    create_topics: bool = _setting(False, "create missing topics at the start")
    model: str = _setting("default", "checkpoint: default, a folder or a hub name (lexicon: word list, for trying out)")
    labels: str = _setting("", "the checkpoint's classes in order, when it only says LABEL_0: negative,neutral,positive")
    device: str = _setting("auto", "auto, cpu, cuda or cuda:N")
    precision: str = _setting("auto", "fp32, bf16, or auto: bf16 where the processor has it")
    runtime: str = _setting("eager", "eager or, on the CPU, compile (torch.compile) or onnx (extra: '.[onnx]')")
    threads: int = _setting(0, "threads of the model on the CPU (0: torch's default)")
    batch_tokens: int = _setting(0, "padded tokens a batch of the model, 16 to 65535 (0: 2048 on a CPU, 32768 on a GPU)")
    cached_texts: int = _setting(10_000, "texts whose scores a worker remembers (0: none)")
    score_speakers: str = _setting("customer,unknown", "speakers whose segments are scored, comma-separated")
    score_partials: bool = _setting(False, "score partial segments, too")
    redact: bool = _setting(False, "mask numbers and e-mail addresses in all that is published (extra: '.[redact]')")
    text: bool = _setting(True, "publish what was said; without it no text leaves the worker")
    rules: str = _setting("", "rules file, or folder of *.yaml; without: the three of the library that are on by default")
    rules_poll_s: float = _setting(3.0, "seconds between two looks whether the rules have changed")
    grace_s: float = _setting(60.0, "seconds after a call's end event until its summary")
    voice_silence_s: float = _setting(900.0, "seconds of silence after which a voice call without an end event is over")
    chat_silence_s: float = _setting(86400.0, "the same for a chat")
    call_url: str = _setting("", "link to a call, put into alerts: https://crm.example/calls/{call_id}")
    instance_id: str = _setting("", "static membership: a name of this worker that outlives restarts, e.g. a pod's")
    stall_s: float = _setting(120.0, "/healthz fails when there is lag and no offset has moved for so many seconds")
    web_host: str = _setting("127.0.0.1", "address that the worker's web server listens on")
    web_port: int = _setting(6066, "its port: /healthz, /readyz and /metrics (0: no web server)")
    traces: bool = _setting(False, "send spans by OTLP, to where OTEL_EXPORTER_OTLP_ENDPOINT says (extra: '.[otel]')")
    log_level: str = _setting("info", "debug, info, warning or error")
    log_format: str = _setting("text", "text, or json: an object a line")
    security_protocol: str = _setting("PLAINTEXT", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    sasl_mechanism: str = _setting("", "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    sasl_username: str = _setting("", "user of PLAIN and SCRAM")
    sasl_password_file: str = _setting("", f"file that holds the password, unless {SASL_PASSWORD} does")
    sasl_token_provider: str = _setting("", "MODULE:CALLABLE that returns a token of OAUTHBEARER, called at each connection")
    ssl_ca_file: str = _setting("", "certificates (PEM) of the authorities to trust, instead of the system's")
    ssl_cert_file: str = _setting("", "certificate (PEM) to present to brokers that ask for one")
    ssl_key_file: str = _setting("", "its key (PEM)")
    ssl_key_password_file: str = _setting("", f"file that holds the key's password, unless {KEY_PASSWORD} does")

    def __post_init__(self) -> None:
        checks = {
            "broker": self.broker in PROFILES,
            "partitions": 1 <= self.partitions <= 10_000,
            "precision": self.precision in ("auto", "fp32", "bf16"),
            "runtime": self.runtime in ("eager", "compile", "onnx"),
            "batch_tokens": self.batch_tokens == 0 or 16 <= self.batch_tokens < 65536,
            "cached_texts": self.cached_texts >= 0,
            "score_speakers": set(self.score_speakers.split(",")) <= {*SPEAKERS, ""},
            "rejected_days": 0 < self.rejected_days < FOREVER,
            "threads": self.threads >= 0,
            "rules_poll_s": 0 < self.rules_poll_s < FOREVER,
            "grace_s": 0 <= self.grace_s < FOREVER,
            "voice_silence_s": 0 < self.voice_silence_s < FOREVER,
            "chat_silence_s": 0 < self.chat_silence_s < FOREVER,
            "stall_s": 0 < self.stall_s < FOREVER,
            "web_port": 0 <= self.web_port < 65536,
            "log_level": self.log_level in ("debug", "info", "warning", "error"),
            "log_format": self.log_format in ("text", "json"),
            "security_protocol": self.security_protocol in PROTOCOLS,
            "sasl_mechanism": self.sasl_mechanism in ("", *MECHANISMS),
            "call_url": self.call_url.count("{") == self.call_url.count("{call_id}"),
        }
        for name, good in checks.items():
            if not good:
                raise SettingsError(f"{named(name)} {getattr(self, name)!r} will not do: {help_of(name)}")
        _check_security(self)

    def topic(self, name: str) -> str:
        """The full name of one of the six topics: segments, sentiment, state, alerts, summaries, rejected."""
        return self.prefix + name

    @property
    def profile(self) -> Profile:
        return PROFILES[self.broker]

    @property
    def limits(self) -> Limits:
        return Limits(
            grace_ms=int(self.grace_s * 1000),
            voice_silence_ms=int(self.voice_silence_s * 1000),
            chat_silence_ms=int(self.chat_silence_s * 1000),
        )

    @property
    def rules_path(self) -> Path | None:
        return Path(self.rules) if self.rules else None

    @property
    def policy(self) -> Policy:
        return Policy(frozenset(filter(None, self.score_speakers.split(","))), self.score_partials)

    @property
    def mask(self) -> Mask:
        """What becomes of a text once it is scored. Raises SettingsError where --redact lacks its libraries."""
        if not self.text:
            return hidden
        if not self.redact:
            return kept
        prepare()
        return redact


SECURITY = tuple(f.name for f in fields(Settings) if f.name.startswith(("security_", "sasl_", "ssl_")))
"""The settings that say how to connect; each client of a broker takes them all."""


def _check_security(s: Settings) -> None:
    """What each kind of connection needs is there, and nothing is given that it would ignore."""
    sasl, tls = s.security_protocol.startswith("SASL"), s.security_protocol.endswith("SSL")
    oauth = s.sasl_mechanism == "OAUTHBEARER"
    unused = [f for f in SECURITY if getattr(s, f) and not {"sasl": sasl, "ssl": tls}.get(f.partition("_")[0], True)]
    for name in unused:
        raise SettingsError(f"{named(name)} given, but --security-protocol is {s.security_protocol}, which does not use it")
    for wanted, name, whose in (
        (sasl, "sasl_mechanism", s.security_protocol),
        (sasl and not oauth, "sasl_username", s.sasl_mechanism),
        (sasl and oauth, "sasl_token_provider", s.sasl_mechanism),
        (s.ssl_cert_file, "ssl_key_file", "--ssl-cert-file"),
        (s.ssl_key_file, "ssl_cert_file", "--ssl-key-file"),
    ):
        if wanted and not getattr(s, name):
            raise SettingsError(f"{named(name)} missing: {whose} needs {help_of(name)}")


def listed() -> tuple[Field[Any], ...]:
    """All settings in the order of the help text."""
    return fields(Settings)


def help_of(name: str) -> str:
    return next(str(f.metadata["help"]) for f in listed() if f.name == name)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return "CALLPULSE_" + name.upper()


def named(name: str) -> str:
    """How an error about a setting begins."""
    return f"{flag(name)} (or {variable(name)}):"


def from_mapping(given: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    """Settings from flags (by field name), then variables, then defaults; raises SettingsError naming the culprit."""
    chosen = {}
    for f in listed():
        text = given.get(f.name, environment.get(variable(f.name)))
        if text is not None:
            chosen[f.name] = _typed(f, text)
    return Settings(**chosen)


def _typed(f: Field[Any], text: str) -> Any:
    try:
        return msgspec.convert(text, type(f.default), strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{named(f.name)} {text!r} will not do: {f.metadata['help']}") from error
