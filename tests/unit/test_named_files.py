"""Files that settings, addresses and models name, and that are none: refused in one sentence, at once, by name."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumer.models.pictures import images
from consumer.runtimes import labels
from headrace.operate import key_file
from headrace.redis import users
from producer_api.auth import KeyCheck
from producer_api.http.server import tls_of
from shared import files, model_config
from shared.api_keys import digest_of
from shared.model_config import Preprocessing
from shared.net import certificates
from shared.redis.client import RedisError, connect, connect_async
from shared.redis.minimum_server import check_server
from shared.settings import Settings, SettingsError
from tests.e2e.producer_api.test_tls import certificate
from tests.unit.shared.scripted import ScriptedServer

ROOT = Path(__file__).parents[2]
KEYS = f'[keys.a]\nsha256 = "{digest_of(b"a").hex()}"\n'

BAD = {
    "missing": "No such file",
    "folder": "it is a folder",
    "pipe": "it is a pipe",
    "endless": "it is a device",
    "socket": "it is a socket",
    "huge": "it is larger than",
    "long": "File name too long",
}
pytestmark = pytest.mark.timeout(30)


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A file that cannot be used, and what is said of it."""
    kind, path = request.param, tmp_path / f"{request.param}.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path = Path("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "long":
        path = tmp_path / ("x" * 300)
    with socket.socket(socket.AF_UNIX) as held:
        if kind == "socket":
            held.bind(str(path))
        yield str(path), BAD[kind]


def ask(url: str) -> None:
    with connect(url) as client:
        client.ping()


READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "models": (model_config.load, "HEADRACE_MODELS_FILE"),
    "keys": (KeyCheck, "HEADRACE_KEYS_FILE"),
    "labels": (labels.read, "labels"),
    "certificate": (
        lambda path: tls_of(Settings(tls_cert_file=path, tls_key_file="/no/key")),
        "HEADRACE_TLS_CERT_FILE",
    ),
    "authorities": (lambda path: ask(f"rediss://127.0.0.1:1/0?ssl_ca_certs={path}"), "ssl_ca_certs"),
    "authorities of Sentinels": (
        lambda path: ask(f"rediss+sentinel://127.0.0.1:1/s?ssl_ca_certs={path}"),
        "ssl_ca_certs",
    ),
    "own certificate": (
        lambda path: connect_async(f"rediss://127.0.0.1:1/0?ssl_certfile={path}&ssl_keyfile=/no/key"),
        "ssl_certfile",
    ),
    "at the door": (
        lambda path: check_server(Settings(redis_url=f"rediss://127.0.0.1:1/0?ssl_ca_certs={path}")),
        "HEADRACE_REDIS_URL",
    ),
}


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once_by_name(reader: str, bad: tuple[str, str]) -> None:
    path, why = bad
    read, setting = READERS[reader]
    with pytest.raises((SettingsError, ValueError)) as caught:
        read(path)
    said = str(caught.value)
    assert setting in said
    assert f"{path} cannot be" in said
    assert why in said
    assert said.endswith(".")
    assert "\n" not in said


def test_a_password_that_is_no_file_is_refused_at_each_connection(bad: tuple[str, str]) -> None:
    path, why = bad
    with ScriptedServer() as server, pytest.raises(RedisError, match="The password file") as caught:
        ask(f"{server.url.replace('redis://', 'redis://me@')}?password_file={path}")
    assert f"{path} cannot be read: {why}" in str(caught.value)


def test_the_password_of_a_user_that_is_no_file_is_refused(bad: tuple[str, str], tmp_path: Path) -> None:
    path, why = bad
    if why in (BAD["missing"], BAD["long"]):
        pytest.skip("then a password is made")
    place = tmp_path / "access" / "operator" / "password"
    place.parent.mkdir(parents=True)
    place.symlink_to(path)
    with pytest.raises(ValueError, match=f"The password file {place} cannot be read: {why}"):
        users.write(tmp_path / "access", {})


def test_keys_are_not_added_to_what_is_no_file(bad: tuple[str, str]) -> None:
    path, why = bad
    if why in (BAD["missing"], BAD["long"]):
        pytest.skip("then it is made, or cannot be")
    with pytest.raises(files.FileRefused, match=why):
        key_file.add(Path(path), "a", "a-key")


def test_a_sample_that_is_no_file_is_refused(bad: tuple[str, str], tmp_path: Path) -> None:
    path, why = bad
    folder = tmp_path / "samples"
    folder.mkdir()
    (folder / "a.jpg").symlink_to(path)
    with pytest.raises(ValueError, match=rf"the sample .*a\.jpg cannot be read: {why}"):
        images.read_folder(folder, Preprocessing())


@pytest.mark.parametrize("command", ["status", "doctor"])
@pytest.mark.parametrize("name", ["/dev/zero", "/nowhere/ca.pem"])
def test_a_command_ends_with_one_sentence(command: str, name: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "headrace", command],
        cwd=ROOT,
        env={**os.environ, "HEADRACE_REDIS_URL": f"rediss://127.0.0.1:1/0?ssl_ca_certs={name}"},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert said.returncode == 2
    assert said.stderr.startswith(f"headrace: HEADRACE_REDIS_URL, option ssl_ca_certs: {name} cannot be used: ")
    assert said.stderr.count("\n") == 1


def test_a_name_of_many_lines_is_shown_in_one() -> None:
    with pytest.raises(SettingsError, match=r"'/a\\nb' cannot be used: No such file") as caught:
        ask("rediss://127.0.0.1:1/0?ssl_ca_certs=/a%0Ab")
    assert "\n" not in str(caught.value)


def test_text_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin"
    path.write_bytes("[keys.Jörg]".encode("latin-1"))
    for read in (model_config.load, KeyCheck, labels.read):
        with pytest.raises(ValueError, match="it is not text in UTF-8"):
            read(str(path))


def test_certificates_are_what_they_are_named_for(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "ours")
    _, other = certificate(tmp_path, "another")
    text = tmp_path / "text.pem"
    text.write_text("no certificate\n")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-aes128", "-passout", "pass:secret", "-in", key, "-out", locked],
        check=True,
        capture_output=True,
    )
    address = "rediss://host/0?"
    for good in (
        f"ssl_ca_certs={cert}&ssl_certfile={cert}&ssl_keyfile={key}",
        f"ssl_certfile={both}",
        f"ssl_ca_path={tmp_path}",
    ):
        certificates.check_address(address + good)
    for wrong, said in (
        (f"ssl_ca_certs={text}", r"ssl_ca_certs: .*text\.pem cannot be used"),
        (f"ssl_ca_path={text}", r"ssl_ca_path: .*text\.pem cannot be used: there is no such folder"),
        (f"ssl_certfile={cert}&ssl_keyfile={other}", "ssl_keyfile cannot be used: KEY_VALUES_MISMATCH"),
        (f"ssl_certfile={cert}&ssl_keyfile={locked}", "ssl_keyfile cannot be used: "),
        (f"ssl_certfile={cert}", "option ssl_certfile cannot be used"),
        (f"ssl_keyfile={key}", "ssl_keyfile needs ssl_certfile"),
    ):
        with pytest.raises(SettingsError, match=said):
            certificates.check_address(address + wrong)


def test_a_file_of_keys_that_becomes_none_is_told_once_and_taken_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(KEYS)
    key_check = KeyCheck(str(path))
    path.unlink()
    os.mkfifo(path)
    for _ in range(3):
        key_check.refresh()
    assert [record.message for record in caplog.records] == [
        "The file of API keys cannot be used, the old keys stay in force: it is a pipe, not a regular file."
    ]
    assert key_check.knows([b"Bearer a"])
    path.unlink()
    path.write_text(KEYS.replace("keys.a", "keys.b"))
    with caplog.at_level(logging.INFO):
        key_check.refresh()
    assert caplog.records[-1].message == "1 API keys are in force."
