"""Settings: flag over variable over default, typed, and errors that say which one is wrong."""

from dataclasses import fields

import pytest

from streams.conversation import Limits
from streams.errors import SettingsError
from streams.pipeline import Policy
from streams.settings import KEY_PASSWORD, PROFILES, SASL_PASSWORD, Settings, flag, from_mapping, help_of, listed, variable


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default() -> None:
    environment = {"CALLPULSE_GROUP": "blue", "CALLPULSE_PARTITIONS": "8", "PARTITIONS": "9", "GROUP": "red"}
    found = from_mapping({"partitions": "16"}, environment)
    assert (found.partitions, found.group, found.prefix) == (16, "blue", "calls.")
    assert from_mapping({}, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("bootstrap_servers", "a:1,b:2", "a:1,b:2"),
        ("partitions", "12", 12),
        ("replication", "-1", -1),
        ("rejected_days", "0.5", 0.5),
        ("grace_s", "0", 0.0),
        ("create_topics", "true", True),
        ("create_topics", "1", True),
        ("create_topics", "False", False),
        ("score_partials", "0", False),
        ("prefix", "", ""),
        ("model", "7", "7"),
    ],
)
def test_text_becomes_the_settings_type(name: str, text: str, value: object) -> None:
    for found in (from_mapping({name: text}, {}), from_mapping({}, {variable(name): text})):
        assert getattr(found, name) == value
        assert type(getattr(found, name)) is type(value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broker", "rabbit"),
        ("partitions", "0"),
        ("partitions", "many"),
        ("partitions", ""),
        ("partitions", "4.5"),
        ("create_topics", "perhaps"),
        ("precision", "fp8"),
        ("runtime", "tensorrt"),
        ("batch_tokens", "15"),
        ("batch_tokens", "65536"),
        ("cached_texts", "-1"),
        ("threads", "-1"),
        ("rejected_days", "0"),
        ("rejected_days", "nan"),
        ("grace_s", "-1"),
        ("grace_s", "inf"),
        ("voice_silence_s", "0"),
        ("voice_silence_s", "nan"),
        ("chat_silence_s", "1e300"),
        ("score_speakers", "customer,boss"),
        ("score_speakers", "customer, agent"),
        ("web_port", "65536"),
        ("log_level", "loud"),
        ("log_format", "xml"),
        ("call_url", "https://crm.example/{id}"),
        ("call_url", "https://crm.example/{call_id}/{"),
        ("security_protocol", "TLS"),
        ("security_protocol", "sasl_ssl"),
        ("sasl_mechanism", "GSSAPI"),
    ],
)
def test_a_bad_value_names_its_flag_its_variable_and_what_it_is_for(name: str, text: str) -> None:
    for given, environment in (({name: text}, {}), ({}, {variable(name): text})):
        with pytest.raises(SettingsError) as caught:
            from_mapping(given, environment)
        assert str(caught.value).startswith(f"{flag(name)} (or {variable(name)}): ")
        assert help_of(name) in str(caught.value)


SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "ann"}


@pytest.mark.parametrize(
    ("given", "culprit", "why"),
    [
        ({"sasl_username": "ann"}, "sasl_username", "--security-protocol is PLAINTEXT"),
        ({"sasl_token_provider": "tokens:kafka"}, "sasl_token_provider", "--security-protocol is PLAINTEXT"),
        ({"ssl_ca_file": "ca.pem"}, "ssl_ca_file", "--security-protocol is PLAINTEXT"),
        ({"security_protocol": "SSL", "sasl_mechanism": "PLAIN"}, "sasl_mechanism", "--security-protocol is SSL"),
        (SCRAM | {"security_protocol": "SASL_PLAINTEXT", "ssl_ca_file": "ca.pem"}, "ssl_ca_file", "is SASL_PLAINTEXT"),
        (SCRAM | {"sasl_mechanism": ""}, "sasl_mechanism", "SASL_SSL needs PLAIN, "),
        (SCRAM | {"sasl_username": ""}, "sasl_username", "SCRAM-SHA-512 needs user"),
        (SCRAM | {"sasl_mechanism": "OAUTHBEARER"}, "sasl_token_provider", "OAUTHBEARER needs MODULE:CALLABLE"),
        ({"security_protocol": "SSL", "ssl_cert_file": "a.pem"}, "ssl_key_file", "--ssl-cert-file needs its key"),
        ({"security_protocol": "SSL", "ssl_key_file": "a.key"}, "ssl_cert_file", "--ssl-key-file needs certificate"),
    ],
)
def test_security_that_is_half_given_is_refused(given: dict[str, str], culprit: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        from_mapping(given, {})
    assert str(caught.value).startswith(f"{flag(culprit)} (or {variable(culprit)}): ")
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        SCRAM,
        SCRAM | {"security_protocol": "SASL_PLAINTEXT"},
        SCRAM | {"sasl_mechanism": "OAUTHBEARER", "sasl_username": "", "sasl_token_provider": "tokens:kafka"},
        {"security_protocol": "SSL"},
        {"security_protocol": "SSL", "ssl_cert_file": "a.pem", "ssl_key_file": "a.pem", "ssl_ca_file": "ca.pem"},
    ],
)
def test_security_is_checked_without_reading_a_file_and_a_password_is_no_setting(given: dict[str, str]) -> None:
    secrets = {SASL_PASSWORD: "swordfish", KEY_PASSWORD: "swordfish"}
    found = from_mapping(given, secrets)
    assert {name: getattr(found, name) for name in given} == given
    assert "swordfish" not in repr(found)


def test_what_becomes_of_a_text_is_a_setting() -> None:
    assert Settings().mask("010-1234-5678") == "010-1234-5678"
    assert Settings(redact=True).mask("010-1234-5678") == "[phone]"
    assert Settings(redact=True, text=False).mask("010-1234-5678") == Settings(text=False).mask("hello") == ""


def test_flags_and_variables_are_named_after_the_field() -> None:
    assert (flag("batch_tokens"), variable("batch_tokens")) == ("--batch-tokens", "CALLPULSE_BATCH_TOKENS")


def test_every_setting_has_a_help_text_and_a_default_that_is_allowed() -> None:
    assert [f.name for f in listed()] == [f.name for f in fields(Settings)]
    assert all(help_of(f.name).strip() for f in listed())
    for f in listed():
        assert from_mapping({f.name: str(f.default)}, {}) == Settings(), f.name


@pytest.mark.parametrize("name", ["segments", "sentiment", "state", "alerts", "summaries", "rejected"])
def test_topic_names_share_the_prefix(name: str) -> None:
    assert Settings().topic(name) == f"calls.{name}"
    assert Settings(prefix="eu-2.").topic(name) == f"eu-2.{name}"


def test_limits_policy_and_profile_come_from_the_settings() -> None:
    assert Settings().limits == Limits()
    assert Settings().policy == Policy()
    chosen = Settings(grace_s=1.5, voice_silence_s=60, chat_silence_s=61, broker="embedded", score_partials=True)
    assert chosen.limits == Limits(grace_ms=1_500, voice_silence_ms=60_000, chat_silence_ms=61_000)
    assert chosen.profile is PROFILES["embedded"]
    assert chosen.policy.partials
    assert Settings(score_speakers="agent,bot").policy == Policy(frozenset({"agent", "bot"}))
    assert Settings(score_speakers="").policy == Policy(frozenset())


def test_a_call_url_may_name_the_call_anywhere_or_not_at_all() -> None:
    for url in ("", "https://crm.example/calls", "https://{call_id}.crm.example/{call_id}"):
        assert from_mapping({"call_url": url}, {}).call_url == url
