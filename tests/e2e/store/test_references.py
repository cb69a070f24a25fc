"""Bodies by reference between real processes: which are fetched, from where, and what ends with a clear error."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.store.client import Client, echoed
from tests.e2e.store.site import Site
from tests.helpers import eventually

BODY = secrets.token_bytes(300_000)
MOST = 1 << 20


class Handler(BaseHTTPRequestHandler):
    """Serves what the tests ask for."""

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if name == "moved":
            self.send_response(302)
            self.send_header("Location", "/body")
            self.end_headers()
            return
        body = {"body": BODY, "empty": b"", "large": bytes(MOST + 1), "endless": bytes(MOST)}.get(name, BODY)
        self.send_response(404 if name == "missing" else 200)
        if name != "endless":
            self.send_header("Content-Length", str(len(body) + (1000 if name == "short" else 0)))
        self.end_headers()
        try:
            self.wfile.write(body)
            while name == "endless":
                self.wfile.write(body)
        except OSError:  # the front end has read enough
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Setting:
    """A site, a web server beside it, and a folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.folder = folder / "allowed"
        self.folder.mkdir()
        (self.folder / "body").write_bytes(BODY)
        self.settings = {
            "MAX_BODY_BYTES": "65536",
            "LARGE_BODY_MB": "1",
            "MAX_SENDING_BYTES": "10000000",
            "UPLOADS_MB": "5",
            "UPLOADS_PER_KEY_MB": "5",
        }
        self.site = Site(
            url,
            f"test-{secrets.token_hex(8)}",
            folder,
            **self.settings,
            REFERENCE_ORIGINS=self.origin,
            PRIVATE_NETWORKS="127.0.0.1",
            REFERENCE_FOLDERS=f"{self.folder}:{folder}/nothing",
        )
        self.client = Client(self.site.stack.url, self.site.model)

    def close(self) -> None:
        self.site.close()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def setting(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    made = Setting(valkey_url, tmp_path_factory.mktemp("setting"))
    yield made
    made.close()


def test_a_body_at_a_url_runs_like_any_other(setting: Setting) -> None:
    answer = setting.client.predict(url=f"{setting.origin}/body", bytes=len(BODY))
    assert echoed(answer) == BODY
    assert len(setting.site.objects("bodies")) == 5


def test_a_body_in_a_file_runs_like_any_other(setting: Setting) -> None:
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert echoed(setting.client.predict(file=str(setting.folder / "body"), sha256=sha256)) == BODY


def test_an_answer_may_come_later(setting: Setting) -> None:
    document = {"reference": {"content_type": "application/octet-stream", "url": f"{setting.origin}/body"}}
    path, kind = f"/v1/models/{setting.site.model}/predict", "application/vnd.headrace.reference+json"
    body = json.dumps(document).encode()
    answer = setting.client.ask("POST", path, body, Content_Type=kind, Prefer="respond-async")
    assert answer.status == 202
    place = answer.headers["location"]

    def result() -> bytes | None:
        found = setting.client.ask("GET", place, Accept="application/msgpack")
        return echoed(found) if found.status == 200 else None

    assert eventually(result) == BODY


def test_a_repeat_under_the_same_id_gets_the_same_answer(setting: Setting) -> None:
    for _ in range(2):
        assert echoed(setting.client.predict("?id=again-1", url=f"{setting.origin}/body")) == BODY


@pytest.mark.parametrize(
    ("name", "status", "code", "says"),
    [
        ("missing", 422, "reference_failed", "answered 404; only 200 is a body"),
        ("moved", 422, "reference_failed", "answered 302"),
        ("short", 422, "reference_failed", "the answer breaks off"),
        ("empty", 422, "reference_failed", "The body is empty"),
        ("large", 422, "reference_failed", "longer than 1,048,576 bytes"),
        ("endless", 422, "reference_failed", "longer than 1,048,576 bytes"),
    ],
)
def test_what_a_url_may_lead_to(setting: Setting, name: str, status: int, code: str, says: str) -> None:
    before = len(setting.site.objects("bodies"))
    answer = setting.client.predict(url=f"{setting.origin}/{name}")
    assert answer.error == (status, code)
    assert says in answer.message
    assert len(setting.site.objects("bodies")) == before  # nothing of it stays


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/body",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "http://user:password@127.0.0.1/",
    ],
)
def test_a_url_of_another_origin_is_not_fetched(setting: Setting, url: str) -> None:
    assert setting.client.predict(url=url).error == (422, "reference_refused")


def test_what_was_declared_is_held(setting: Setting) -> None:
    url = f"{setting.origin}/body"
    for members, field in (({"bytes": 5}, "bytes"), ({"sha256": "0" * 64}, "sha256")):
        answer = setting.client.predict(url=url, **members)
        assert (*answer.error, answer.body["error"]["field"]) == (422, "invalid_input", f"reference.{field}")


def test_only_regular_files_below_the_folders_are_read(setting: Setting) -> None:
    folder = setting.folder
    (folder.parent / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(folder.parent / "secret")
    (folder / "way").symlink_to(folder.parent)
    (folder / "inner").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "large").write_bytes(bytes(MOST + 1))
    for path in ("/etc/passwd", f"{folder}/../secret", str(folder), f"{folder.parent}/secret", "body", f"{folder}x/a"):
        assert setting.client.predict(file=path).error == (422, "reference_refused"), path
    said = set()
    for name in ("link", "way/secret", "inner", "pipe", "absent", "body/x"):
        answer = setting.client.predict(file=f"{folder}/{name}")
        assert answer.error == (422, "reference_failed"), name
        said.add(answer.message)
    assert said == {"There is no such regular file, or it cannot be read."}
    assert setting.client.predict(file=f"{folder}/large").error == (422, "reference_failed")


@pytest.mark.parametrize(
    ("document", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"[]", 422, "reference"),
        (b"{}", 422, "reference"),
        (b'{"reference": {"url": "http://a/"}}', 422, "reference"),
        (b'{"reference": {"content_type": "application/octet-stream"}}', 422, "reference"),
        (b'{"reference": {"content_type": "text/html", "upload": "00000000000000000000000000000000"}}', 415, None),
        (
            b'{"reference": {"content_type": "application/json", "upload": "00000000000000000000000000000000"}}',
            415,
            None,
        ),
        (b'{"reference": {"content_type": "application/octet-stream", "upload": "../x"}}', 422, "reference.upload"),
        (b'{"reference": {"content_type": "application/octet-stream", "url": "a", "file": "b"}}', 422, "reference"),
        (b'{"reference": {"content_type": "application/octet-stream", "s3": "s3://b/k"}}', 422, "reference.s3"),
        (b'{"reference": {"content_type": "application/octet-stream", "url": "a", "more": 1}}', 422, "reference"),
        (b" " * 20_000 + b"{}", 422, "reference"),
    ],
)
def test_what_is_no_reference(setting: Setting, document: bytes, status: int, field: str | None) -> None:
    answer = setting.client.document(document)
    assert (answer.status, answer.body["error"]["field"]) == (status, field or "reference.content_type")


def test_without_settings_nothing_is_fetched_and_private_addresses_need_one(setting: Setting) -> None:
    none = {"REFERENCE_FOLDERS": "/nonexistent", "PRIVATE_NETWORKS": "10.0.0.0/8", "REFERENCE_ORIGINS": "*"}
    setting.site.stack.start_front_end(**none)
    client = Client(setting.site.stack.url, setting.site.model)
    eventually(lambda: client.ask("GET", f"/v1/models/{setting.site.model}").status == 200)
    for url in (f"{setting.origin}/body", f"http://localhost:{setting.server.server_port}/body"):
        answer = client.predict(url=url)
        assert answer.error == (422, "reference_refused")
        assert "is not a public address, and HEADRACE_PRIVATE_NETWORKS does not allow it" in answer.message


def test_a_front_end_without_a_store_takes_no_references(setting: Setting) -> None:
    setting.site.stack.start_front_end(RESULTS="off")
    client = Client(setting.site.stack.url, setting.site.model)
    eventually(lambda: client.ask("GET", f"/v1/models/{setting.site.model}").status == 200)
    assert client.predict(url=f"{setting.origin}/body").error == (422, "reference_refused")
    assert client.begin(5).error == (404, "not_found")
