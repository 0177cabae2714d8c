"""How clients are connected, without a broker: what they are given, which files and secrets are wanted, what is said."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka import errors as aio_errors
from broker.secured import PASSWORD, make_certificates, no_openssl
from click.testing import CliRunner
from kafka import errors as kafka_errors

from streams import access, cli, security
from streams.errors import DeliveryError, SettingsError
from streams.settings import KEY_PASSWORD, SASL_PASSWORD, Settings
from streams.worker import credentials

SECRETS = {SASL_PASSWORD: "swordfish"}
SCRAM = Settings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-512", sasl_username="ann")
OAUTH = Settings(security_protocol="SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_provider="tokens_here:kafka")
TLS = Settings(security_protocol="SSL")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if no_openssl():
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def kafka():\n    return 'a-token'\ndef away():\n    raise OSError('no route')\n"
    (tmp_path / "tokens_here.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)


def test_without_security_clients_are_given_the_servers_and_nothing_more() -> None:
    settings = Settings(bootstrap_servers="a:1, b:2")
    assert security.aio_client(settings, SECRETS) == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert security.client(settings, SECRETS).keys() - security.aio_client(settings).keys() == {"bootstrap_timeout_ms"}
    assert credentials(settings) is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_every_client_is_given_user_and_password(mechanism: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SCRAM, sasl_mechanism=mechanism)
    for made in (security.client(settings, SECRETS), security.aio_client(settings, SECRETS)):
        assert (made["security_protocol"], made["sasl_mechanism"]) == ("SASL_PLAINTEXT", mechanism)
        assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("ann", "swordfish")
    monkeypatch.setenv(SASL_PASSWORD, "swordfish")
    faust = credentials(settings)
    assert (faust.protocol.value, faust.mechanism.value) == ("SASL_PLAINTEXT", mechanism)
    assert (faust.username, faust.password) == ("ann", "swordfish")


def test_a_password_file_is_read_at_each_use_and_the_environment_wins(tmp_path: Path) -> None:
    path = tmp_path / "password"
    settings = replace(SCRAM, sasl_password_file=str(path))
    for text, password in (("first\r\n", "first"), ("second\n", "second"), (" spaces stay ", " spaces stay ")):
        path.write_text(text)
        assert security.client(settings, {})["sasl_plain_password"] == password
    assert security.client(settings, SECRETS)["sasl_plain_password"] == "swordfish"


def test_a_missing_password_names_every_way_to_give_it() -> None:
    with pytest.raises(SettingsError, match=f"set {SASL_PASSWORD}, or .* --sasl-password-file or {SASL_PASSWORD}_FILE"):
        security.client(SCRAM, {})


@pytest.mark.parametrize("name", ["sasl_password_file", "ssl_ca_file", "ssl_cert_file", "ssl_key_file"])
def test_a_file_that_cannot_be_read_is_named_with_its_flag(name: str, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("")
    settings = SCRAM if name.startswith("sasl") else replace(TLS, ssl_cert_file=str(there), ssl_key_file=str(there))
    with pytest.raises(SettingsError, match=rf"--{name.replace('_', '-')} .*: {tmp_path}/gone cannot be read \(No such file"):
        security.client(replace(settings, **{name: str(tmp_path / "gone")}), {})  # type: ignore[arg-type]


def test_certificates_and_host_names_are_checked_from_tls_1_2_on(certificates: Path) -> None:
    for settings in (TLS, replace(TLS, ssl_ca_file=str(certificates / "ca.pem"))):
        context = security.client(settings)["ssl_context"]
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert credentials(settings).context.check_hostname
    assert [authority["subject"] for authority in context.get_ca_certs()] == [((("commonName", "ca"),),)]


def test_what_is_no_certificate_is_refused(certificates: Path) -> None:
    with pytest.raises(SettingsError, match=r"--ssl-ca-file .* holds no certificates"):
        security.client(replace(TLS, ssl_ca_file=str(certificates / "ca.key")))


@pytest.mark.parametrize(
    ("key", "environment", "refused"),
    [
        ("client.key", {}, ""),
        ("client.locked.key", {KEY_PASSWORD: PASSWORD}, ""),
        ("client.locked.key", {}, f"no password: set {KEY_PASSWORD}"),
        ("client.locked.key", {KEY_PASSWORD: "wrong"}, "--ssl-key-file .*client.locked.key is not the key"),
        ("server.key", {}, "--ssl-key-file .*server.key is not the key"),
    ],
)
def test_a_client_certificate_needs_its_key(certificates: Path, key: str, environment: dict[str, str], refused: str) -> None:
    settings = replace(TLS, ssl_cert_file=str(certificates / "client.pem"), ssl_key_file=str(certificates / key))
    if not refused:
        assert "ssl_context" in security.client(settings, environment)
        return
    with pytest.raises(SettingsError, match=refused) as caught:
        security.client(settings, environment)
    assert "wrong" not in str(caught.value)


@pytest.mark.usefixtures("tokens")
def test_a_token_is_asked_for_by_each_client_in_its_own_way() -> None:
    assert security.client(OAUTH)["sasl_oauth_token_provider"].token() == "a-token"
    assert asyncio.run(security.aio_client(OAUTH)["sasl_oauth_token_provider"].token()) == "a-token"
    assert asyncio.run(credentials(OAUTH).oauth_cb.token()) == "a-token"


@pytest.mark.usefixtures("tokens")
def test_a_token_that_cannot_be_had_is_a_failed_connection_that_is_tried_again() -> None:
    provider = security.aio_client(replace(OAUTH, sasl_token_provider="tokens_here:away"))["sasl_oauth_token_provider"]
    with pytest.raises(aio_errors.KafkaConnectionError, match=r"tokens_here:away gave no token: OSError.'no route'") as caught:
        asyncio.run(provider.token())
    assert caught.value.retriable


@pytest.mark.usefixtures("tokens")
@pytest.mark.parametrize("name", ["kafka", "tokens_here", "tokens_here:nothing", "nowhere:kafka", ":kafka"])
def test_a_provider_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"--sasl-token-provider .* is no MODULE:CALLABLE"):
        security.client(replace(OAUTH, sasl_token_provider=name))


def test_doctor_words_show_no_secret() -> None:
    assert security.described(Settings()).startswith("PLAINTEXT: nothing is encrypted")
    assert security.described(SCRAM) == "SASL_PLAINTEXT, SCRAM-SHA-512 as ann, nothing is encrypted"
    assert security.described(OAUTH) == "SASL_PLAINTEXT, OAUTHBEARER as tokens_here:kafka, nothing is encrypted"
    shown = security.described(replace(TLS, ssl_cert_file="c.pem", ssl_key_file="c.key"))
    assert shown == "SSL, brokers' certificates checked against the authorities of this system, showing c.pem"


@pytest.mark.parametrize(
    "command", ["worker", "alerts", "replay", "validate", "doctor", "demo", "topics create", "topics list", "rejected list"]
)
def test_every_command_that_talks_to_kafka_takes_the_settings_and_no_secret(command: str) -> None:
    shown = CliRunner().invoke(cli.cli, [*command.split(), "--help"], env={SASL_PASSWORD: "swordfish"}).output
    own, secure = shown.split("TLS and SASL")
    for name in ("security-protocol", "sasl-mechanism", "sasl-username", "sasl-password-file", "ssl-ca-file", "ssl-key-file"):
        assert f"--{name} " in secure
        assert f"--{name} " not in own
    assert "--sasl-password " not in shown
    assert "swordfish" not in shown


@pytest.mark.parametrize(
    ("error", "lacking"),
    [
        (kafka_errors.TopicAuthorizationFailedError({"b", "a"}), "Read on topic a, b"),
        (aio_errors.TopicAuthorizationFailedError("a"), "Read on topic a"),
        (aio_errors.GroupAuthorizationFailedError("g-score"), "Read on group g-score"),
        (kafka_errors.GroupAuthorizationFailedError("g-score"), "Read on group g-score"),
        (aio_errors.TransactionalIdAuthorizationFailed("g-judge-0"), "Write on transactional-id g-judge-0"),
        (kafka_errors.KafkaError("Unexpected: [Error 31] ClusterAuthorizationFailedError"), "IdempotentWrite on cluster"),
        (aio_errors.KafkaError("in between"), None),
        (ValueError("a"), None),
    ],
)
def test_a_right_that_is_missing_is_named_however_deep_it_lies(error: Exception, lacking: str | None) -> None:
    wrapped = aio_errors.KafkaError("Unexpected error during coordination")
    wrapped.__cause__ = error
    for said in (access.denied(error), access.denied(wrapped)):
        assert said is None if lacking is None else str(said).startswith(f"the broker denies {lacking}")


def test_a_topic_that_was_to_be_written_lacks_write() -> None:
    failed = DeliveryError("a record was not delivered to a")
    failed.__cause__ = aio_errors.TopicAuthorizationFailedError()
    assert str(access.denied(failed)).startswith("the broker denies Write on topic. ")


def test_both_libraries_have_the_errors_that_are_read() -> None:
    for name in access.DENIED:
        for library in (kafka_errors, aio_errors):
            assert hasattr(library, name) or hasattr(library, name + "Error")
