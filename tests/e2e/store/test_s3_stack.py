"""Processes that share a bucket of S3: results, uploads and bodies by reference."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.results import opening, s3
from shared.settings import Settings, SettingsError
from tests.e2e.store.client import Client, echoed
from tests.e2e.store.s3_server import s3_server
from tests.e2e.store.site import Site

BODY = secrets.token_bytes(200_000)


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    with s3_server("results", "photos", "private"):
        client = s3.make_client()
        client.put_object(Bucket="photos", Key="in/large", Body=BODY)
        client.put_object(Bucket="photos", Key="too/large", Body=bytes((1 << 20) + 1))
        client.put_object(Bucket="private", Key="secret", Body=b"secret")
        yield client
        client.close()


@pytest.fixture(scope="module")
def site(bucket: Any, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(
        valkey_url,
        f"test-{secrets.token_hex(8)}",
        tmp_path_factory.mktemp("site"),
        RESULTS="s3://results/headrace",
        MAX_BODY_BYTES="65536",
        MAX_SENDING_BYTES="10000000",
        LARGE_BODY_MB="1",
        REFERENCE_BUCKETS="photos",
    )
    yield made
    made.close()


@pytest.fixture
def client(site: Site) -> Client:
    return Client(site.stack.url, site.model)


def test_a_large_result_goes_to_the_bucket_and_comes_back_whole(site: Site, bucket: Any) -> None:
    request_id = site.send(BODY[:50_000])
    assert site.reply(request_id).at_store
    assert bytes(site.get(request_id).body["outputs"][0]["data"]) == BODY[:50_000]
    found = bucket.list_objects_v2(Bucket="results", Prefix=f"headrace/o/results/{site.model}/")
    assert [request_id in one["Key"] for one in found["Contents"]] == [True]


def test_an_upload_lies_in_the_bucket_until_it_is_deleted(client: Client, bucket: Any) -> None:
    upload = client.upload(BODY)
    assert echoed(client.predict(upload=upload)) == BODY
    assert client.ask("DELETE", f"/v1/uploads/{upload}").status == 204
    assert bucket.list_objects_v2(Bucket="results", Prefix="headrace/o/bodies/")["KeyCount"] == 0


def test_a_body_in_an_allowed_bucket_runs_like_any_other(client: Client) -> None:
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert echoed(client.predict(s3="s3://photos/in/large", bytes=len(BODY), sha256=sha256)) == BODY


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("s3://private/secret", "reference_refused"),
        ("s3://results/headrace/o/x", "reference_refused"),
        ("s3://photos/", "reference_refused"),
        ("photos/in/large", "reference_refused"),
        ("s3://photos/absent", "reference_failed"),
        ("s3://photos/too/large", "reference_failed"),
    ],
)
def test_all_other_objects_are_refused(client: Client, address: str, code: str) -> None:
    assert client.predict(s3=address).error == (422, code)


def test_without_boto3_a_process_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    opening.check_store(Settings(results=str(tmp_path)))
    for settings in (Settings(results="s3://results/x"), Settings(reference_buckets=("photos",))):
        with pytest.raises(SettingsError, match=r"needs boto3: pip install .* --group s3"):
            opening.check_store(settings)
