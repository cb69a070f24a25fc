from __future__ import annotations

import socket
from dataclasses import replace

from consumer.loading.closing import CLOSE_S
from consumer.process_end import CHILDREN_S, EXIT_S
from headrace.asking.address import base_url
from headrace.sizing import Place
from headrace.stack import plan
from headrace.stack.child import Stage
from shared.model_config import ModelConfig
from shared.settings import Settings

COMMANDS = plan.Commands(front_end=("front",), consumer=("consumer",), wait=("wait",))


def _settings(**environment: str) -> Settings:
    return Settings.from_env({f"HEADRACE_{name}": value for name, value in environment.items()})


PLACES = [
    Place("consumer imagenet 1", "imagenet", 0, threads=2, cores=(0, 1)),
    Place("consumer imagenet 2", "imagenet", 1, threads=1, gpu="3"),
    Place("consumer echo", "echo", 2),
]


def test_a_consumer_is_told_its_number_its_cores_and_what_is_its_own() -> None:
    specs = plan.service_specs(_settings(), COMMANDS, PLACES)
    assert [(spec.name, spec.argv, dict(spec.environment)) for spec in specs] == [
        (
            "consumer imagenet 1",
            ("consumer", "--model", "imagenet", "--index", "0", "--cores", "0,1"),
            {"HEADRACE_TORCH_THREADS": "2"},
        ),
        (
            "consumer imagenet 2",
            ("consumer", "--model", "imagenet", "--index", "1"),
            {"HEADRACE_TORCH_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3"},
        ),
        ("consumer echo", ("consumer", "--model", "echo", "--index", "2"), {}),
        ("producer_api", ("front",), {}),
    ]
    assert [spec.stage for spec in specs] == [Stage.CONSUMER] * 3 + [Stage.FRONT_END]


def test_consumers_get_the_longest_batch_time_to_drain_and_the_time_to_close_and_to_end() -> None:
    consumer, *_ = plan.service_specs(_settings(LONGEST_BATCH_MS="2000"), COMMANDS, PLACES)
    assert consumer.stop_limit_s == 2.0 + plan.CLOSE_AND_EXIT_S
    assert CLOSE_S + 2 * EXIT_S + CHILDREN_S < plan.CLOSE_AND_EXIT_S


def test_a_front_end_gets_its_grace_and_the_time_of_its_requests() -> None:
    *_, front_end = plan.service_specs(_settings(DRAIN_S="4", DEFAULT_TIMEOUT_MS="2000"), COMMANDS, PLACES)
    assert front_end.stop_limit_s == 4.0 + 2.0 + 5


def test_the_start_goes_on_once_the_front_end_takes_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        *_, front_end = plan.service_specs(_settings(HOST="0.0.0.0", PORT=str(port)), COMMANDS, PLACES)
        assert front_end.ready is not None
        assert front_end.ready()
    assert not front_end.ready()


def test_one_probe_for_each_model_waits_for_all_its_workers() -> None:
    specs = plan.probe_specs(_settings(PORT="8123"), COMMANDS, PLACES)
    assert [spec.argv for spec in specs] == [
        ("wait", "--url", "http://127.0.0.1:8123", "--model", "imagenet", "--workers", "2"),
        ("wait", "--url", "http://127.0.0.1:8123", "--model", "echo", "--workers", "1"),
    ]


def test_children_inherit_the_environment_and_the_settled_addresses() -> None:
    asked = _settings(PORT="0", MODELS="cat,dog")
    settings = plan.settle(asked, redis_url="redis://127.0.0.1:7/0", port=8001, metrics_port=9200)
    environment = plan.child_environment(settings, {"PATH": "/bin", "HEADRACE_PORT": "0"})
    assert environment == {
        "PATH": "/bin",
        "HEADRACE_PORT": "8001",
        "HEADRACE_MODELS": "cat,dog",
        "HEADRACE_METRICS_PORT": "9200",
        "HEADRACE_REDIS_URL": "redis://127.0.0.1:7/0",
        "PYTHONUNBUFFERED": "1",
    }
    assert plan.child_environment(replace(settings, results="/srv/results"), {})["HEADRACE_RESULTS"] == "/srv/results"


def test_addresses_are_ones_this_machine_can_open() -> None:
    assert base_url(_settings(HOST="0.0.0.0")) == "http://127.0.0.1:8000"
    assert base_url(_settings(HOST="::")) == "http://[::1]:8000"
    assert base_url(_settings(HOST="::1")) == "http://[::1]:8000"


def test_the_banner_names_everything_and_hides_the_password() -> None:
    settings = plan.settle(
        _settings(MODELS="imagenet,echo"), redis_url="redis://user:secret@db:6379/0", port=8000, metrics_port=9101
    )
    models = {"imagenet": ModelConfig("timm"), "echo": ModelConfig("echo")}
    text = plan.banner(settings, models, PLACES, took_s=4.24)
    assert "after 4.2 s" in text
    assert "http://127.0.0.1:8000/docs" in text
    assert "http://127.0.0.1:9103/metrics (consumer echo)" in text
    assert "redis://db:6379/0" in text
    assert "secret" not in text
    assert (
        "curl -H 'Content-Type: image/jpeg' --data-binary @examples/photos/cat.jpg "
        "http://127.0.0.1:8000/v1/models/imagenet/predict"
    ) in text
    assert "--data-binary hello http://127.0.0.1:8000/v1/models/echo/predict" in text


def test_the_banner_stays_short_with_many_consumers() -> None:
    places = [Place(f"consumer big {number + 1}", "big", number, threads=1, cores=(number,)) for number in range(64)]
    settings = plan.settle(_settings(MODELS="big"), redis_url="redis://db:6379/0", port=8000, metrics_port=9101)
    text = plan.banner(settings, {"big": ModelConfig("timm")}, places, took_s=4.2)
    assert text.count("\n") < 20
    assert "64 of big, 1 thread(s) each, each on cores of its own" in text
    assert "http://127.0.0.1:9101/metrics (consumer big 1)" in text
    assert "to port 9164, one for each of the 64 consumers of big" in text


def test_with_api_keys_nobody_can_ask_for_a_first_inference() -> None:
    settings = Settings(keys_file="keys.toml")
    assert plan.probe_specs(settings, plan.Commands(), []) == []
    assert "with API keys or TLS" in plan.banner(settings, {}, [], 1.0)


SEVERAL = {"redis_url": "redis://db:6379/0", "port": 8000, "metrics_port": 9101}


def test_each_of_several_front_ends_has_its_number() -> None:
    settings = plan.settle(_settings(), **SEVERAL, front_ends=2, api_metrics_port=9104)  # type: ignore[arg-type]
    *_, first, second = plan.service_specs(settings, COMMANDS, PLACES)
    assert [(spec.name, spec.argv, spec.stage, spec.index) for spec in (first, second)] == [
        ("producer_api 1", ("front", "--index", "0"), Stage.FRONT_END, 0),
        ("producer_api 2", ("front", "--index", "1"), Stage.FRONT_END, 1),
    ]
    environment = plan.child_environment(settings, {"HEADRACE_FRONT_ENDS": "0"})
    assert environment["HEADRACE_FRONT_ENDS"] == "2"
    assert environment["HEADRACE_API_METRICS_PORT"] == "9104"


def test_all_front_ends_are_told_the_port_for_grpc_and_the_banner_shows_it() -> None:
    settings = plan.settle(_settings(), **SEVERAL, grpc_port=8001)  # type: ignore[arg-type]
    assert plan.child_environment(settings, {"HEADRACE_GRPC_PORT": "0"})["HEADRACE_GRPC_PORT"] == "8001"
    assert "gRPC       127.0.0.1:8001" in plan.banner(settings, {}, [], 1.0)
    without = plan.settle(_settings(), **SEVERAL)  # type: ignore[arg-type]
    assert "HEADRACE_GRPC_PORT" not in plan.child_environment(without, {})
    assert "gRPC" not in plan.banner(without, {}, [], 1.0)


def test_the_banner_names_the_console_unless_it_is_off() -> None:
    assert "  console    http://127.0.0.1:8000/console" in plan.banner(Settings(), {}, [], 1.0)
    assert "/console" not in plan.banner(Settings(console="off"), {}, [], 1.0)


def test_one_of_several_is_ready_once_the_port_and_its_own_are_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as shared, socket.create_server(("127.0.0.1", 0)) as own:
        settings = plan.settle(
            _settings(),
            redis_url="redis://db:6379/0",
            port=shared.getsockname()[1],
            metrics_port=1,
            front_ends=2,
            api_metrics_port=own.getsockname()[1] - 1,
        )
        *_, second = plan.service_specs(settings, COMMANDS, PLACES)
        assert second.ready is not None
        assert second.ready()
        own.close()
        assert not second.ready()


def test_the_banner_shows_the_metrics_of_each_front_end() -> None:
    settings = plan.settle(_settings(), **SEVERAL, front_ends=2, api_metrics_port=9104)  # type: ignore[arg-type]
    text = plan.banner(settings, {"echo": ModelConfig("echo")}, PLACES, took_s=1.0)
    assert "front ends 2 on one port" in text
    assert "  metrics    http://127.0.0.1:9104/metrics (producer_api 1)\n" in text
    assert "             http://127.0.0.1:9105/metrics (producer_api 2)\n" in text
    assert ":8000/metrics" not in text


def test_the_banner_of_a_single_front_end_says_where_its_metrics_are() -> None:
    def shown(port: int | None) -> str:
        settings = plan.settle(_settings(), **SEVERAL, api_metrics_port=port)  # type: ignore[arg-type]
        return plan.banner(settings, {}, PLACES, took_s=1.0)

    assert "metrics    http://127.0.0.1:8000/metrics\n" in shown(None)
    assert "metrics    http://127.0.0.1:9300/metrics\n" in shown(9300)
    assert "metrics    on a free port, which the log of producer_api names" in shown(0)
    assert "front ends" not in shown(None)
