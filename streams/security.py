"""How every client is connected to the brokers: where to, with TLS or without, and as whom.

Secrets are no settings: they are taken from the environment or from files when a client is made, so that no flag, no help
text, no log line and no repr shows them.
"""

import asyncio
import importlib
import os
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from aiokafka.abc import AbstractTokenProvider as Awaited
from aiokafka.errors import KafkaConnectionError
from kafka.net.sasl.oauth import AbstractTokenProvider as Blocking

from streams.errors import SettingsError
from streams.settings import KEY_PASSWORD, SASL_PASSWORD, SECURITY, Settings, flag, named, variable

CONNECT_S = 10.0  # as long as the broker may take to answer
PLAINTEXT: dict[str, Any] = dict.fromkeys(SECURITY, "") | {"security_protocol": "PLAINTEXT"}
"""The settings for a broker that knows no security, such as the embedded one."""


def client(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What kafka-python's clients take. Raises SettingsError for a file or a secret that is missing."""
    return _arguments(settings, environment, _Blocking) | {"bootstrap_timeout_ms": int(CONNECT_S * 1000)}


def aio_client(settings: Settings, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What aiokafka's clients take. Raises SettingsError for a file or a secret that is missing."""
    return _arguments(settings, environment, _Awaited)


def _arguments(settings: Settings, environment: Mapping[str, str], tokens: Callable[[str], Any]) -> dict[str, Any]:
    servers = [server.strip() for server in settings.bootstrap_servers.split(",")]
    made: dict[str, Any] = {"bootstrap_servers": servers, "security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        made["ssl_context"] = _tls(settings, environment)
    if settings.sasl_mechanism:
        made["sasl_mechanism"] = settings.sasl_mechanism
    if settings.sasl_mechanism == "OAUTHBEARER":
        made["sasl_oauth_token_provider"] = tokens(settings.sasl_token_provider)
    elif settings.sasl_mechanism:
        made["sasl_plain_username"] = settings.sasl_username
        made["sasl_plain_password"] = _secret(settings, "sasl_password_file", environment, SASL_PASSWORD)
    return made


def _tls(settings: Settings, environment: Mapping[str, str]) -> ssl.SSLContext:
    """Certificates and host names are checked; TLS 1.2 or newer."""
    for name in ("ssl_ca_file", "ssl_cert_file", "ssl_key_file"):
        _read(settings, name)
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file or None)
    except ssl.SSLError as error:
        raise _unusable(settings, "ssl_ca_file", f"holds no certificates in PEM ({error.reason})") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ssl_cert_file:
        _present(context, settings, environment)
    return context


def _present(context: ssl.SSLContext, settings: Settings, environment: Mapping[str, str]) -> None:
    secret = partial(_secret, settings, "ssl_key_password_file", environment, KEY_PASSWORD)
    try:
        context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file, secret)  # called where the key is encrypted
    except ssl.SSLError as error:
        why = f"is not the key of {settings.ssl_cert_file} in PEM, or the password is not the key's ({error.reason})"
        raise _unusable(settings, "ssl_key_file", why) from error


def _secret(settings: Settings, name: str, environment: Mapping[str, str], secret: str) -> str:
    found = environment.get(secret) or _read(settings, name).rstrip("\r\n")
    if not found:
        raise SettingsError(f"no password: set {secret}, or name the file that holds it with {flag(name)} or {variable(name)}")
    return found


def _read(settings: Settings, name: str) -> str:
    """The text of a file, empty where none is named."""
    path = getattr(settings, name)
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _unusable(settings, name, f"cannot be read ({why})") from error


def _unusable(settings: Settings, name: str, why: str) -> SettingsError:
    return SettingsError(f"{named(name)} {getattr(settings, name)} {why}")


class _Blocking(Blocking):  # type: ignore[misc]
    """kafka-python's provider."""

    def __init__(self, name: str) -> None:
        self.fetch = _token_source(name)

    def token(self) -> str:
        return self.fetch()


class _Awaited(Awaited):  # type: ignore[misc]
    """aiokafka's provider: tokens are fetched on a thread, as that may take a request."""

    def __init__(self, name: str) -> None:
        self.fetch = _token_source(name)

    async def token(self) -> str:
        return await asyncio.to_thread(self.fetch)


def _token_source(name: str) -> Callable[[], str]:
    """The user's function; what it raises becomes a failed connection, after which it is called again."""
    module, _, attribute = name.partition(":")
    try:
        made: Callable[[], str] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"{named('sasl_token_provider')} {name!r} is no MODULE:CALLABLE ({error}); a module that is not installed is found "
            "by PYTHONPATH"
        ) from error

    def fetch() -> str:
        try:
            return made()
        except Exception as error:
            raise KafkaConnectionError(f"{name} gave no token: {error!r}") from error

    return fetch


def described(settings: Settings) -> str:
    """In words, for `doctor`; no secret, and no file is read."""
    if settings.security_protocol == "PLAINTEXT":
        return "PLAINTEXT: nothing is encrypted and nobody is authenticated"
    said = [settings.security_protocol]
    if settings.sasl_mechanism:
        said.append(f"{settings.sasl_mechanism} as {settings.sasl_username or settings.sasl_token_provider}")
    if settings.security_protocol.endswith("SSL"):
        said.append(f"brokers' certificates checked against {settings.ssl_ca_file or 'the authorities of this system'}")
    else:
        said.append("nothing is encrypted")
    if settings.ssl_cert_file:
        said.append(f"showing {settings.ssl_cert_file}")
    return ", ".join(said)
