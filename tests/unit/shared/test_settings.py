"""Settings: every wrong value is refused with its name and itself; what stands together holds together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import settings as module
from shared.settings import Settings, SettingsError, check_window

RANGES = {one.name: one.metadata["range"] for one in dataclasses.fields(Settings) if "range" in one.metadata}
CHOICES = {one.name: one.metadata["choices"] for one in dataclasses.fields(Settings) if "choices" in one.metadata}


def read(**values: str) -> Settings:
    return Settings.from_env({f"HEADRACE_{name}": value for name, value in values.items()})


def refusal(**values: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(**values)
    return str(caught.value)


def test_the_defaults_are_the_documented_ones() -> None:
    settings = read()
    assert settings == Settings()
    assert settings.redis_url is None
    assert (settings.host, settings.port, settings.models) == ("127.0.0.1", 8000, ("imagenet",))
    assert (settings.max_batch, settings.window_ms, settings.batch_policy, settings.precision) == (None,) * 4
    assert (settings.default_timeout_ms, settings.max_timeout_ms, settings.lease_ms) == (10_000, 60_000, 5_000)
    assert (settings.lane_limit, settings.consumers, settings.metrics_port, settings.pin) == (2048, 0, 9101, "auto")
    assert (settings.appendonly, settings.maxmemory_mb, settings.max_body_bytes) == ("everysec", 1024, 16_777_216)


@pytest.mark.parametrize("text", ["", "http://a.b", "a.b:80", "a b", "*.*", "a..b", "*b"])
def test_hosts_are_names(text: str) -> None:
    assert "HEADRACE_ALLOWED_HOSTS lists names without scheme and port" in refusal(ALLOWED_HOSTS=text)


@pytest.mark.parametrize("text", ["", "a.b", "https://a.b/", "https://a.b/c", "https://*.b", "null"])
def test_origins_are_origins(text: str) -> None:
    assert "HEADRACE_CORS_ORIGINS lists origins such as" in refusal(CORS_ORIGINS=text)


@pytest.mark.parametrize("text", ["", "a.b", "10.0.0.0/33", "10.0.0.1/8", "http://10.0.0.1", "10.0.0.1,"])
def test_private_networks_are_networks(text: str) -> None:
    assert "HEADRACE_PRIVATE_NETWORKS lists networks such as" in refusal(PRIVATE_NETWORKS=text)
    assert read(PRIVATE_NETWORKS="10.0.0.0/8, ::1").private_networks == ("10.0.0.0/8", "::1")


@pytest.mark.parametrize("text", ["", "secret", "whsec_", "whsec_QUJD", "whsec_" + "A" * 31, "whsec_" + "A" * 32 + ","])
def test_secrets_of_webhooks_are_long_enough_and_never_shown(text: str) -> None:
    message = refusal(WEBHOOK_SECRETS=text)
    assert "HEADRACE_WEBHOOK_SECRETS lists secrets: whsec_ and" in message
    assert "AAAA" not in message
    good = "whsec_" + "A" * 32
    other = "B" * 84
    settings = read(WEBHOOK_SECRETS=f"{good}, whsec_{other}")
    assert settings.webhook_secrets == (good, f"whsec_{other}")
    assert good not in repr(settings)


@pytest.mark.parametrize("text", ["", "api.example", "ftp://a.b", "https://a.b/?c", "https://u@a.b", "https://a.b/ c"])
def test_the_public_address_is_one(text: str) -> None:
    assert "HEADRACE_PUBLIC_URL must be such as" in refusal(PUBLIC_URL=text)
    assert read(PUBLIC_URL="https://a.b:8443/c/").public_url == "https://a.b:8443/c"


def test_hosts_and_origins_are_lists_in_lower_case() -> None:
    settings = read(ALLOWED_HOSTS="API.example, *.B.c,fd00::1", CORS_ORIGINS="https://A.b, http://localhost:3000")
    assert settings.allowed_hosts == ("api.example", "*.b.c", "fd00::1")
    assert settings.cors_origins == ("https://a.b", "http://localhost:3000")


def test_unread_answers_may_hold_at_least_one_body() -> None:
    assert "HEADRACE_MAX_SENDING_BYTES (1)" in refusal(MAX_SENDING_BYTES="1")
    assert read().sending_limit_bytes == 256 * 1024 * 1024


def test_other_names_in_the_environment_are_none_of_our_business() -> None:
    assert Settings.from_env({"PATH": "/bin", "HEADRACER": "x", "headrace_port": "1"}) == Settings()


@pytest.mark.parametrize("name", ["HEADRACE_MAXBATCH", "HEADRACE_", "HEADRACE_port", "HEADRACE_PORT "])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({name: "1"})
    assert f"{name} is not a setting" in str(caught.value)


def test_the_setting_that_was_probably_meant_is_named() -> None:
    assert "did you mean HEADRACE_WINDOW_MS?" in refusal(WINDOWS_MS="5")
    assert "docs/settings.md" in refusal(XYZZY="5")


def test_a_setting_that_is_gone_is_refused_with_what_to_do_instead() -> None:
    assert refusal(RECIPE="plain") == (
        "HEADRACE_RECIPE is gone: the runtime is chosen by measuring. HEADRACE_RUNTIME=torch runs models in PyTorch as "
        "they are written, and HEADRACE_TUNE=off looks for nothing faster."
    )
    assert all(name not in module._KNOWN for name in module._GONE)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PRECISION", "int4", ", int8,"),
        ("RUNTIME", "onnx", "torch, onnxruntime, openvino"),
        ("TUNE", "on", "background, first, off"),
        ("TUNE_BUDGET_S", "0", "between 1 and 3600"),
        ("TUNE_BUDGET_S", "nan", "between 1 and 3600"),
    ],
)
def test_what_is_no_way_to_tune_is_refused_with_what_there_is(name: str, value: str, allowed: str) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"HEADRACE_{name} must")
    assert allowed in message


def test_every_field_can_be_set_by_its_name() -> None:
    environment = {
        f"HEADRACE_{field.name.upper()}": {"redis_url": "redis://h", "max_batch": "4", "window_ms": "2.5",
                                           "batch_policy": "window", "precision": "bf16", "runtime": "torch",
                                           "buckets": "8,1,1", "keys_file": "k", "tls_cert_file": "c",
                                           "tls_key_file": "k", "api_metrics_port": "1", "grpc_port": "0",
                                           "allowed_hosts": "a.b,*", "cors_origins": "https://a.b:1",
                                           "private_networks": "10.0.0.0/8", "default_model": "m",
                                           "predict_route": "/p", "health_route": "/h", "public_url": "https://a.b",
                                           "webhook_secrets": "whsec_" + "A" * 32,
                                           "reference_origins": "https://a.b", "reference_folders": "/a:/b/c",
                                           "reference_buckets": "abc", "cache_s": "60", "cache_mb": "8",
                                           "cache_scope": "all", "goodput_ms": "250"}.get(field.name)
        or (",".join(field.default) if isinstance(field.default, tuple) else str(field.default))
        for field in dataclasses.fields(Settings)
    }  # fmt: skip
    settings = Settings.from_env(environment)
    assert (settings.redis_url, settings.max_batch, settings.window_ms) == ("redis://h", 4, 2.5)
    assert settings.buckets == (1, 8)
    silent: dict[str, Any] = {field.name: None for field in dataclasses.fields(Settings) if field.default is None}
    assert dataclasses.replace(settings, **silent) == Settings()


@pytest.mark.parametrize("name", sorted(RANGES))
@pytest.mark.parametrize("text", ["", "many", "1.5", "0x10", "1e3", "--1"])
def test_what_is_no_whole_number_is_refused_by_name_and_value(name: str, text: str) -> None:
    message = refusal(**{name.upper(): text})
    assert f"HEADRACE_{name.upper()}" in message
    assert repr(text) in message


@pytest.mark.parametrize("name", sorted(RANGES))
def test_a_whole_number_out_of_range_is_refused_by_name_value_and_range(name: str) -> None:
    low, high = RANGES[name]
    for value in (low - 1, high + 1):
        message = refusal(**{name.upper(): str(value)})
        for part in (f"HEADRACE_{name.upper()}", str(value), str(low), str(high)):
            assert part in message


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_an_unknown_choice_is_refused_and_the_choices_are_listed(name: str) -> None:
    message = refusal(**{name.upper(): "purple"})
    assert f"HEADRACE_{name.upper()}" in message
    assert "'purple'" in message
    for choice in CHOICES[name]:
        assert choice in message
        assert getattr(read(**{name.upper(): choice}), name) == choice


@pytest.mark.parametrize("text", ["", "soon", "-0.1", "nan", "inf", "60001"])
def test_a_wrong_window_is_refused(text: str) -> None:
    message = refusal(WINDOW_MS=text)
    assert "HEADRACE_WINDOW_MS" in message
    assert text in message


@pytest.mark.parametrize("text", ["", "0", "-1", "1,", "1;2", "4097", "1.5", "8,eight"])
def test_wrong_buckets_are_refused(text: str) -> None:
    assert "HEADRACE_BUCKETS" in refusal(BUCKETS=text)


def test_a_window_of_zero_is_allowed() -> None:
    assert read(WINDOW_MS="0").window_ms == 0.0


@pytest.mark.parametrize(("text", "part"), [("", "at least one"), (" , ", "at least one"), ("a,b}", "b}"),
                                            ("a,a", "twice"), ("x" * 65, "xxx")])  # fmt: skip
def test_wrong_model_names_are_refused(text: str, part: str) -> None:
    message = refusal(MODELS=text)
    assert "HEADRACE_MODELS" in message
    assert part in message


def test_model_names_may_have_space_around_them() -> None:
    assert read(MODELS=" imagenet , echo,").models == ("imagenet", "echo")


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://x"])
def test_a_redis_address_needs_a_scheme(url: str) -> None:
    assert "HEADRACE_REDIS_URL" in refusal(REDIS_URL=url)


@pytest.mark.parametrize("name", ["HOST", "MODELS_FILE", "DATA_DIR", "METRICS_HOST"])
@pytest.mark.parametrize("text", ["", "  "])
def test_texts_must_not_be_empty(name: str, text: str) -> None:
    assert f"HEADRACE_{name}" in refusal(**{name: text})


def test_a_default_timeout_beyond_the_largest_is_refused_with_both() -> None:
    message = refusal(DEFAULT_TIMEOUT_MS="5000", MAX_TIMEOUT_MS="4999")
    for part in ("HEADRACE_DEFAULT_TIMEOUT_MS", "5000", "HEADRACE_MAX_TIMEOUT_MS", "4999"):
        assert part in message


def test_a_window_beyond_the_longest_batch_is_refused_with_both() -> None:
    message = refusal(WINDOW_MS="1000", LONGEST_BATCH_MS="1000")
    for part in ("HEADRACE_WINDOW_MS", "1000", "HEADRACE_LONGEST_BATCH_MS", "1000"):
        assert part in message
    assert read(WINDOW_MS="999", LONGEST_BATCH_MS="1000").window_ms == 999


def test_the_room_for_bodies_that_are_received_follows_the_largest_body_and_holds_one() -> None:
    assert read().receiving_limit_bytes == 256 << 20
    assert read(MAX_BODY_BYTES="5000").receiving_limit_bytes == 80_000
    assert read(MAX_BODY_BYTES="5000", MAX_RECEIVING_BYTES="5000").receiving_limit_bytes == 5000
    said = refusal(MAX_BODY_BYTES="5000", MAX_RECEIVING_BYTES="4999")
    assert said == "HEADRACE_MAX_RECEIVING_BYTES (4999) must not be less than HEADRACE_MAX_BODY_BYTES (5000)."


def test_a_models_window_is_held_to_the_same_rule() -> None:
    with pytest.raises(SettingsError, match="window_ms of model echo"):
        check_window(10_000, Settings(), "window_ms of model echo")


def test_the_default_times_are_the_documented_ones() -> None:
    settings = Settings()
    assert (settings.block_ms, settings.socket_timeout_s, settings.longest_batch_ms) == (1000, 3.0, 10_000)
    assert settings.heartbeat_ms == 1000
    assert settings.reply_expiry_ms(10_000) == 70_000
    assert settings.reply_expiry_ms(10_000, keep_ms=5) == 5


@given(st.integers(*RANGES["lease_ms"]), st.integers(1, 3_600_000))
def test_times_nest_at_every_lease(lease_ms: int, ttl_ms: int) -> None:
    settings = read(LEASE_MS=str(lease_ms), WINDOW_MS="0")
    assert 0 < settings.block_ms < settings.socket_timeout_s * 1000
    assert settings.socket_timeout_s * 1000 < settings.lease_ms
    assert settings.heartbeat_ms * 3 < settings.lease_ms
    assert settings.reply_expiry_ms(ttl_ms) >= ttl_ms + 4 * (lease_ms + settings.longest_batch_ms)


@given(st.integers(*RANGES["lease_ms"]))
def test_a_lost_connection_is_noticed_within_the_lease(lease_ms: int) -> None:
    settings = read(LEASE_MS=str(lease_ms), WINDOW_MS="0")
    assert settings.socket_timeout_s * 1000 < settings.lease_ms


@given(st.dictionaries(st.sampled_from(sorted(module._KNOWN)), st.text(max_size=8), max_size=4))
def test_any_environment_gives_settings_or_one_sentence(environment: dict[str, str]) -> None:
    message = "."
    try:
        Settings.from_env(environment)
    except SettingsError as error:
        message = str(error)
    assert message.endswith(".")
    assert "\n" not in message


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]


def test_a_long_lease_makes_no_slow_stop() -> None:
    settings = read(LEASE_MS="600000")
    assert (settings.block_ms, settings.heartbeat_ms, settings.socket_timeout_s) == (1000, 1000, 3.0)


@pytest.mark.parametrize("address", ["redis://localhost:abc", "redis://localhost:99999"])
def test_an_address_with_an_impossible_port_is_refused(address: str) -> None:
    assert "HEADRACE_REDIS_URL" in refusal(REDIS_URL=address)


@pytest.mark.parametrize(
    "address",
    [
        "redis://user:S3cret#hash@localhost:6379/0",
        "redis://user:12345#S3cret@localhost:6379/0",
        "redis://user:12345/S3cret@localhost:6379/0",
        "redis://user:S3cret",
        "redis+sentinel://user:S3cret/service",
        "redis+sentinel://user:12345#S3cret@host/service",
    ],
)
def test_a_password_that_breaks_the_address_is_not_shown(address: str) -> None:
    refused = refusal(REDIS_URL=address)
    assert "HEADRACE_REDIS_URL" in refused
    assert "S3cret" not in refused


@pytest.mark.parametrize("value", ["-1", "257", "two"])
def test_a_number_of_consumers_that_cannot_be_is_one_sentence(value: str) -> None:
    assert refusal(CONSUMERS=value).startswith("HEADRACE_CONSUMERS must ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REFERENCE_FOLDERS", "relative"),
        ("REFERENCE_FOLDERS", "/a:"),
        ("REFERENCE_FOLDERS", "/a/../b"),
        ("REFERENCE_BUCKETS", "a_b"),
        ("REFERENCE_BUCKETS", "a/b"),
        ("REFERENCE_ORIGINS", "https://a.b/path"),
    ],
)
def test_what_is_no_place_to_fetch_bodies_from_is_refused_by_name(name: str, value: str) -> None:
    assert f"HEADRACE_{name} lists" in refusal(**{name: value})


def test_http_and_grpc_have_a_port_each() -> None:
    assert "HEADRACE_GRPC_PORT must not be HEADRACE_PORT (8000)" in refusal(GRPC_PORT="8000")
    assert Settings.from_env({"HEADRACE_PORT": "0", "HEADRACE_GRPC_PORT": "0"}).grpc_port == 0
