"""`headrace doctor`: each illness is produced and found."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from deploy.group_requirements import requirements
from headrace.operate.doctor import Finding, examine, judge_server, judge_users, libraries
from headrace.operate.minimum_versions import OLDEST_LIBRARIES, is_below
from headrace.operate.tuning import ADOPTION_S, judge
from headrace.redis.inspection import Model, WorkerSeen
from headrace.redis.server_settings import judge_use
from shared import keys
from shared.redis import library
from shared.redis.client import connect
from shared.state.cards import Tuning
from tests.contract.lanes import card
from tests.helpers import eventually
from tests.unit.headrace.operators import LONG_LEASE, MODEL, Said, add, headrace, serve, server

ROOT = Path(__file__).parents[4]
WORK = keys.work(MODEL, "default")
SHORT_LEASE = {"HEADRACE_LEASE_MS": "500"}


def sick(said: Said) -> dict[str, tuple[str, str]]:
    """What was found that is not well."""
    assert said.out, said.err
    found = {one["check"]: (one["state"], one["detail"]) for one in said.json["findings"] if one["state"] != "ok"}
    assert said.code == int(any(state == "problem" for state, _ in found.values()))
    return found


def test_a_healthy_stack_has_nothing(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        serve(url)
        assert sick(headrace(url, "doctor", "--json")) == {}
        shown = headrace(url, "doctor")
        assert shown.code == 0
        assert shown.out.splitlines()[0].split() == ["CHECK", "STATE", "FOUND"]
        assert "noeviction" in shown.out


def test_kept_results_that_are_nearly_full(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.set(keys.kept_bytes(MODEL), 1000, px=60_000)
        client.zadd(keys.kept(MODEL, "default"), {"": 4})
        state, detail = sick(headrace(url, "doctor", "--json"))[f"lane {MODEL}/default"]
        assert (state, "take 1024 of 1000 bytes" in detail) == ("warning", True)
        assert "default: 0 later requests are open" in headrace(url, "status").out


def test_a_server_that_evicts_and_keeps_nothing(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.config_set("maxmemory", "0")
        found = sick(headrace(url, "doctor", "--json"))
        assert found["eviction"][0] == "problem"
        assert found["persistence"][0] == found["memory"][0] == "warning"


def test_functions_that_are_missing_or_of_another_version(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        client.function_flush()
        assert sick(headrace(url, "doctor", "--json"))["functions"][0] == "problem"
        client.function_load("#!lua name=headrace1\nredis.register_function('hr1_admit', function() return 1 end)")
        state, detail = sick(headrace(url, "doctor", "--json"))["functions"]
        assert (state, "hr1_commit" in detail, "hr1_admit" in detail) == ("problem", True, False)
        # Who may not list functions finds out by calling them.
        client.execute_command("ACL", "SETUSER", "o", "on", ">p", "~hr:*", "+@all", "-function", "-acl")
        as_operator = url.replace("//", "//o:p@")
        state, detail = sick(headrace(as_operator, "doctor", "--json"))["functions"]
        assert (state, "hr1_commit" in detail, "hr1_admit" in detail) == ("problem", True, False)
        newer = library.source().replace("-- version ", "-- version 9", 1)
        client.function_load(newer, replace=True)
        assert "functions" not in sick(headrace(url, "doctor", "--json"))
        assert headrace(url, "functions", "load", "--json").json == {"loaded": []}
        assert "of a newer version, which stay" in headrace(url, "functions", "load").out
        assert library.library_code(client.function_list("headrace1", withcode=True)) == newer
        client.function_load(f"{library.source()}\n-- of another version", replace=True)
        assert sick(headrace(url, "doctor", "--json"))["functions"][0] == "warning"
        found = sick(headrace(as_operator, "doctor", "--json"))
        assert {check: state for check, (state, _) in found.items()} == {"users": "unknown"}


@pytest.mark.parametrize(
    ("rules", "bind", "protected", "state"),
    [
        (["user default on nopass ~* &* +@all"], "127.0.0.1 -::1", False, "ok"),
        (["user default on nopass ~* &* +@all"], "* -::*", True, "ok"),
        (["user default on nopass ~* &* +@all"], "* -::*", False, "problem"),
        (["user default on nopass ~* &* +@all"], "", False, "problem"),
        (["user default on nopass ~* &* +@all"], "127.0.0.1 10.0.0.5", False, "problem"),
        (["user default off nopass -@all", "user a on #00 ~* +@all"], "", False, "ok"),
        (["user default off -@all", "user health on nopass -@all +ping"], "", False, "problem"),
    ],
)
def test_users_without_a_password(rules: list[str], bind: str, protected: bool, state: str) -> None:
    assert judge_users(rules, bind, protected).state == state


def test_a_lane_without_group_or_stream(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.xgroup_destroy(WORK, keys.GROUP)
        state, detail = sick(headrace(url, "doctor", "--json"))[f"lane {MODEL}/default"]
        assert (state, "group" in detail) == ("problem", True)
        client.delete(WORK)
        state, detail = sick(headrace(url, "doctor", "--json"))[f"lane {MODEL}/default"]
        assert (state, "stream" in detail) == ("problem", True)


def test_a_consumer_that_is_gone_with_what_it_had_claimed(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        add(client, 2)
        client.xreadgroup(keys.GROUP, "w1", {WORK: ">"})
        client.zrem(keys.workers(MODEL), "w1")

        def found() -> dict[str, tuple[str, str]]:
            return sick(headrace(url, "doctor", "--json", **SHORT_LEASE))

        lane = f"lane {MODEL}/default"
        eventually(lambda: lane in found(), limit_s=30)
        state, detail = found()[lane]
        assert state == "problem"
        assert detail.startswith("w1 holds 2 requests")
        assert found()[f"model {MODEL}"] == ("problem", "No live worker, and 2 requests wait; start a consumer.")


LONG = str(int(ADOPTION_S))


def seen(name: str, **fields: str) -> WorkerSeen:
    return WorkerSeen(name, 0.0, {"device": "cpu", "precision": "fp32", "loaded_s": LONG, **fields})


def differences(*workers: WorkerSeen) -> list[str]:
    model = Model("m", 0.0, {}, workers, ())
    return [one.detail for one in judge(model, {worker.name for worker in workers})]


def test_consumers_that_run_differently_for_long_are_told_with_what_each_runs() -> None:
    [told] = differences(
        seen("a", runtime="torch"), seen("b", runtime="torch"), seen("c", runtime="openvino", precision="bf16")
    )
    assert "openvino in bf16 by c; torch in fp32 by a, b." in told


@pytest.mark.parametrize(
    "other",
    [
        seen("b", runtime="torch", loaded_s=LONG),
        seen("b", runtime="onnxruntime", loaded_s="119"),  # has just gone over, and the next one will
        seen("b", runtime="onnxruntime", device="cuda"),
        seen("b", runtime="onnxruntime", progress="switching"),  # an operator's wish goes from one to the next
        seen("b", runtime="onnxruntime", progress="waiting"),
        seen("b", runtime="", loaded_s=""),  # of an older version, which does not say
        seen("b", runtime="onnxruntime", loaded_s="nonsense"),
    ],
)
def test_consumers_that_differ_for_a_reason_are_well(other: WorkerSeen) -> None:
    assert differences(seen("a", runtime="torch"), other) == []


def test_a_runtime_that_was_named_and_is_not_used_is_told(tmp_path: Path) -> None:
    with server(tmp_path) as url:
        why = "openvino is not installed: pip install --group openvino. torch serves."
        runs = msgspec.structs.replace(card(MODEL), runtime="torch", tuning=Tuning("refused", why))
        serve(url, runs=runs, runtime="torch", loaded_s=LONG)
        assert sick(headrace(url, "doctor", "--json", **LONG_LEASE)) == {f"model {MODEL}": ("warning", why)}
        serve(url, runs=msgspec.structs.replace(runs, tuning=Tuning("plain", "Nothing was found yet.")))
        assert sick(headrace(url, "doctor", "--json", **LONG_LEASE)) == {}
        serve(url, "w2", runtime="onnxruntime", loaded_s=LONG)
        serve(url, "w1", runtime="torch", loaded_s=LONG)
        state, detail = sick(headrace(url, "doctor", "--json", **LONG_LEASE))[f"model {MODEL}"]
        assert (state, "onnxruntime in fp32 by w2; torch in fp32 by w1" in detail) == ("warning", True)


def test_dead_letters_and_a_full_lane_are_warnings(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        serve(url)
        client.hset(keys.lanes(MODEL), "default", 1)
        client.xadd(keys.dead_letters(MODEL, "default"), {"reason": "crashed"})
        add(client, 1)
        said = headrace(url, "doctor", "--json")
        details = [one["detail"] for one in said.json["findings"] if one["state"] == "warning"]
        assert said.code == 0
        assert [detail.split(":")[0] for detail in details[:1]] == ["Full"]
        assert "1 dead letters" in details[1]


def test_a_server_whose_clients_may_fill_it_is_told_what_to_set(tmp_path: Path) -> None:
    with server(tmp_path) as url, connect(url) as client:
        wanted = {"maxmemory-clients": "38mb", "acllog-max-len": "0", "timeout": "0", "tcp-keepalive": "60"}
        checks = {"maxmemory-clients": "unread answers", "acllog-max-len": "refused commands"}
        for name, bad in (
            ("maxmemory-clients", "0"),
            ("client-output-buffer-limit", "normal 0 0 0"),
            ("min-string-size-avoid-copy-reply", "16384"),
            ("acllog-max-len", "128"),
            ("timeout", "300"),
            ("tcp-keepalive", "0"),
        ):
            before = client.config_get(name)[name]
            client.config_set(name, bad)
            found = {one.check: one for one in examine(client, 5_000) if one.state != "ok"}
            client.config_set(name, wanted.get(name, before))
            default = "idle connections" if name in ("timeout", "tcp-keepalive") else "unread answers"
            [only] = found.values()
            assert (only.check, only.state) == (checks.get(name, default), "warning")
            assert name in only.detail
        client.execute_command("ACL", "SETUSER", "o", "on", ">p", "~hr:*", "+@all", "-config")
        with connect(url.replace("//", "//o:p@")) as other:
            found = {one.check: one for one in examine(other, 5_000) if one.state == "unknown"}
        assert "CONFIG GET" in found["settings"].detail


def test_keys_in_another_database_and_clients_that_were_closed_are_told() -> None:
    def said(**more: object) -> dict[str, Finding]:
        return {one.check: one for one in judge_use({"db0": {"keys": 3}, **HEALTHY, **more})}

    assert said() == {}
    assert "1 (5 keys)" in said(db1={"keys": 5})["databases"].detail
    assert said(cluster_enabled=1)["cluster"].state == "problem"
    assert said(role="slave", master_host="one")["primary"].state == "problem"
    assert "3 clients" in said(evicted_clients=2, client_output_buffer_limit_disconnections=1)["closed clients"].detail
    assert said(connected_clients=90, maxclients=100)["connections"].state == "warning"


HEALTHY = {
    "redis_version": "7.0.15",
    "maxmemory_policy": "noeviction",
    "maxmemory": 1 << 30,
    "used_memory": 1 << 20,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
}


@pytest.mark.parametrize(
    ("info", "check"),
    [
        ({"redis_version": "6.2.14"}, "server"),
        ({"valkey_version": "7.2.5"}, "server"),
        ({"used_memory": (1 << 30) - 1}, "memory"),
        ({"aof_last_write_status": "err"}, "persistence"),
    ],
)
def test_what_cannot_be_produced_with_this_server(info: dict[str, Any], check: str) -> None:
    assert [one.state for one in judge_server(HEALTHY)] == ["ok"] * 4
    found = {one.check: one.state for one in judge_server({**HEALTHY, **info}) if one.state != "ok"}
    assert found == {check: "problem"}


def test_a_library_below_its_floor_is_a_problem() -> None:
    [found] = libraries([("msgpack", "1.2.2")])
    assert found == Finding("library msgpack", "problem", "1.2.2 is older than 1.2.3; install a newer one.")


@pytest.mark.parametrize(
    ("one", "floor", "below"),
    [
        ("1.2.2", "1.2.3", True),
        ("1.2.3", "1.2.3", False),
        ("1.10.0", "1.3.1", False),
        ("12.3", "12.3.0", False),
        ("2.15.0+cpu", "2.10", False),
        ("13", "12.3", False),
        ("", "1", True),
    ],
)
def test_versions_compare_by_number(one: str, floor: str, below: bool) -> None:
    assert is_below(one, floor) is below


def test_what_is_pinned_and_asked_for_and_installed_is_above_the_floors() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    wanted = {canonicalize_name(one.name): one for one in map(Requirement, requirements(groups, "dev"))}
    for name, floor in OLDEST_LIBRARIES.items():
        if name == "python-multipart":  # comes with nothing today
            assert name not in wanted
            assert Version(pins.get(name, floor)) >= Version(floor)
            continue
        assert Version(pins[name]) >= Version(floor)
        assert Version(version(name)) >= Version(floor)
        # The lowest version that the range lets in is not below the floor either.
        [lowest] = [
            Version(part.version) for part in wanted[canonicalize_name(name)].specifier if part.operator == ">="
        ]
        assert lowest >= Version(floor)
