"""Archives of every kind behind a real consumer and a real front end, asked as TorchServe's documentation asks."""

from __future__ import annotations

import io
import json
import secrets
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.e2e.stack import Stack
from tests.e2e.torchserve.archives import DIGIT_NETWORK, DIGITS, FUNCTION, LABELS, NETWORK, archive, manners

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Place:
    """What runs; names of models."""

    url: str
    names: dict[str, str]
    folder: Path
    stack: Stack

    def ask(self, model: str, *curl: str, rest: str = "") -> tuple[int, str, bytes]:
        """Ask a model with curl; return status, content type and body."""
        command = ["curl", "-sS", "-w", "\n%{http_code} %{content_type}", *curl]
        done = subprocess.run(
            [*command, f"{self.url}/predictions/{self.names.get(model, model)}{rest}"], capture_output=True, check=True
        )
        body, _, end = done.stdout.rpartition(b"\n")
        status, _, content_type = end.decode().partition(" ")
        return int(status), content_type, body


def _picture(mode: str, side: int, colour: int | tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (side, side), colour).save(file, "PNG")
    return file.getvalue()


def _state(**tensors: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


def _archives(folder: Path) -> dict[str, Path]:
    import torch  # takes seconds, which the other tests need not wait for

    torch.manual_seed(1)
    fc, conv = torch.nn.Linear(4 * 26 * 26, 10), torch.nn.Conv2d(1, 4, 3)
    digits = {f"fc.{name}": one for name, one in fc.state_dict().items()}
    digits |= {f"conv.{name}": one for name, one in conv.state_dict().items()}
    return {
        "classifier": archive(
            folder / "classifier.mar",
            {
                "network.py": NETWORK,
                "weights.pt": _state(scale=torch.tensor([-1.0, 1.0, 0.5])),
                "index_to_name.json": json.dumps(LABELS),
            },
            handler="image_classifier",
            modelFile="network.py",
            serializedFile="weights.pt",
        ),
        "mnist": archive(
            folder / "mnist.mar",
            {"mnist_handler.py": DIGITS, "mnist.py": DIGIT_NETWORK, "mnist_cnn.pt": _state(**digits)},
            handler="mnist_handler.py",
            modelFile="mnist.py",
            serializedFile="mnist_cnn.pt",
        ),
        "manners": manners(folder / "manners.mar"),
        "function": archive(folder / "function.mar", {"service.py": FUNCTION}, handler="service.py:handle"),
    }


@pytest.fixture(scope="module")
def place(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Start a consumer for each archive."""
    folder = tmp_path_factory.mktemp("torchserve")
    found = _archives(folder)
    names = {name: f"test-{name}-{secrets.token_hex(4)}" for name in found}
    tables = [f'[models.{names[name]}]\nfamily = "torchserve"\nweights = "{path}"\n' for name, path in found.items()]
    models = folder / "models.toml"
    models.write_text("".join(tables))
    with Stack(valkey_url, models, BUCKETS="1,2", MAX_BATCH="4") as stack:
        processes = [stack.begin_consumer(name) for name in names.values()]
        stack.start_front_end()
        for process in processes:
            process.until("Ready: ")
        for name in names.values():
            stack.wait(name)
        yield Place(stack.url, names, folder, stack)


def _body(place: Place, content: bytes) -> str:
    file = place.folder / secrets.token_hex(4)
    file.write_bytes(content)
    return str(file)


def test_a_classifier_answers_labels_with_their_probabilities(place: Place) -> None:
    file = _body(place, _picture("RGB", 300, (250, 250, 250)))
    for how in (("-T", file), ("-F", f"data=@{file}"), ("-X", "POST", "--data-binary", f"@{file}")):
        status, content_type, body = place.ask("classifier", *how)
        assert (status, content_type) == (200, "application/json"), body
        answer = json.loads(body)
        assert list(answer) == ["bright", "loud", "dark"]
        assert sum(answer.values()) == pytest.approx(1)


def test_a_picture_that_is_none_is_the_clients_mistake(place: Place) -> None:
    status, _, body = place.ask("classifier", "-T", _body(place, b"no picture"))
    assert status == 422
    assert json.loads(body) == {
        "code": 422,
        "type": "BadRequestException",
        "message": "This is not a picture that can be read.",
    }


def test_a_handler_of_the_mnist_example_answers_a_digit(place: Place) -> None:
    status, _, body = place.ask("mnist", "-T", _body(place, _picture("L", 28, 200)))
    assert status == 200
    assert json.loads(body) in range(10)


def test_a_function_is_called_once_without_data_first(place: Place) -> None:
    status, content_type, body = place.ask("function", "-H", "Content-Type: text/plain", "-d", "hello")
    assert (status, content_type, body) == (200, "text/plain; charset=utf-8", b"1 hello")


def test_a_custom_handler_gets_bodies_forms_queries_and_its_context(place: Place) -> None:
    _, _, body = place.ask("manners", "-T", _body(place, b"hello"))
    answer = json.loads(body)
    assert answer["fields"] == {"body": "hello"}
    assert (answer["extra"], answer["greeting"], answer["batch_size"]) == ("from the archive", "hello", 4)
    _, _, body = place.ask("manners", "-F", "data=one", "-F", "more=two", rest="?top=3")
    assert json.loads(body)["fields"] == {"data": "one", "more": "two", "top": "3"}
    _, _, body = place.ask("manners", "-H", "Content-Type: application/json", "-d", '{"a": [1]}')
    assert json.loads(body)["fields"] == {"body": {"a": [1]}}
    assert json.loads(body)["content_type"] == "application/json"
    for sent in (("-d", "x"), ("-F", "data=x")):
        _, _, body = place.ask("manners", "-H", "X-Tenant: acme", "-H", "Authorization: Bearer s", *sent)
        assert (json.loads(body)["header"], json.loads(body)["secret"]) == ("acme", None)
    _, _, body = place.ask("manners", "-F", 'data={"a": 1};type=application/json')
    assert json.loads(body)["fields"] == {"data": {"a": 1}}


def test_an_answer_of_bytes_has_the_type_that_the_handler_sets(place: Place) -> None:
    status, content_type, body = place.ask("manners", "-d", "png")
    assert (status, content_type) == (200, "image/png")
    assert body == b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.mark.parametrize(
    ("said", "code", "message"),
    [
        ("count", 500, "The handler's answer is wrong: it returned 0 answers for 1 requests."),
        ("raise", 500, "The handler raised KeyError; the log says more."),
        ("exit", 500, "The handler failed: it called sys.exit(3)."),
        ("refuse", 422, "Not this one."),
        ("status", 422, "No such thing."),
        ("strange", 500, "it must return a list with one answer for each of 1 requests, not a str"),
        ("splitting", 500, "the content type that it set is"),
    ],
)
def test_what_a_handler_does_wrong_is_said_and_harms_nobody(place: Place, said: str, code: int, message: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        asked = [said, "hello", "print", "hello"]
        answers = list(pool.map(lambda text: place.ask("manners", "-d", text), asked))
    status, _, body = answers[0]
    error = json.loads(body)
    assert (status, error["code"]) == (code, code)
    assert message in error["message"]
    assert error["type"] == ("InternalServerException" if code == 500 else "BadRequestException")
    assert [one[0] for one in answers[1:]] == [200, 200, 200]
    assert answers[2][2] == b"printed"


def test_versions_unknown_models_and_methods_answer_in_torchserves_shape(place: Place) -> None:
    assert place.ask("manners", "-d", "hello", rest="/1")[0] == 200
    for model, rest, method, code, kind in (
        ("manners", "/7", "POST", 404, "ModelVersionNotFoundException"),
        ("no-such-model", "", "POST", 404, "ModelNotFoundException"),
        ("manners", "", "DELETE", 405, "MethodNotAllowedException"),
        ("manners", "/1/2", "POST", 404, "ResourceNotFoundException"),
    ):
        status, _, body = place.ask(model, "-X", method, "-d", "hello", rest=rest)
        error = json.loads(body)
        assert (status, error["code"], error["type"]) == (code, code, kind), error
        assert error["message"]


def test_ping_says_healthy(place: Place) -> None:
    done = subprocess.run(["curl", "-sS", f"{place.url}/ping"], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"status": "Healthy"}


def test_the_native_dialect_asks_a_handler_too(place: Place) -> None:
    url = f"{place.url}/v1/models/{place.names['manners']}/predict"
    asked = '{"inputs": [{"name": "data", "shape": [2], "datatype": "BYTES", "data": ["print", "hello"]}]}'
    done = subprocess.run(
        ["curl", "-sS", "-H", "Content-Type: application/json", "-d", asked, url], capture_output=True, check=True
    )
    outputs = {one["name"]: one["data"] for one in json.loads(done.stdout)["outputs"]}
    assert outputs["body"][0] == "printed"
    assert outputs["content_type"] == ["text/plain; charset=utf-8", "application/json"]
