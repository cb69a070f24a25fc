"""The page and its files as the front end serves them, and the way to them from /."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from producer_api.console.page.assets import POLICY, Assets, lean
from shared.settings import Settings
from tests.unit.producer_api.asgi import Api, Response

STATIC = Path(__file__).parents[4] / "producer_api" / "console" / "page" / "static"
SCRIPTS = sorted((STATIC / "js").glob("*.js"))
MOST_BYTES = 60_000
MOST_LINES = 400
HTML = [("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")]
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|eval\(|new Function"
)


class Links(HTMLParser):
    """The addresses that a page names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name in ("href", "src") if (value := given.get(name)) and not value.startswith("#")]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)


def is_kept(response: Response) -> bool:
    return "immutable" in response.headers["cache-control"]


def test_the_page_and_all_it_names_are_served(api: Api) -> None:
    page = api.get("/console")
    assert page.status == 200
    assert page.headers["content-security-policy"] == POLICY
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = Links(page.body.decode())
    assert links.inline == []
    files = [name for name in links.found if name.startswith("console/static/")]
    assert len(files) > len(SCRIPTS)
    for name in files:
        found = api.get(f"/{name}")
        assert (found.status, is_kept(found)) == (200, True), name
        assert found.headers["content-type"].partition(";")[0] in {
            "text/javascript",
            "text/css",
            "image/svg+xml",
            "font/woff2",
        }


def test_no_link_begins_at_the_top_so_that_a_proxy_may_have_it_below_a_path(api: Api) -> None:
    for page in (api.get("/console"), api.get("/", HTML)):
        assert [name for name in Links(page.body.decode()).found if name.startswith(("/", "http"))] == []
    assert not any(re.search(r"['\"`]/(console|v1)/", path.read_text(encoding="utf-8")) for path in SCRIPTS)


def test_a_browser_that_has_the_page_is_not_sent_it_again(api: Api) -> None:
    etag = api.get("/console").headers["etag"]
    again = api.get("/console", [("If-None-Match", etag)])
    assert (again.status, again.body) == (304, b"")


def test_a_slash_too_many_leads_to_the_page(api: Api) -> None:
    answer = api.get("/console/")
    assert (answer.status, answer.headers["location"]) == (308, "../console")


def test_files_of_another_version_are_served_and_not_kept(api: Api) -> None:
    found = api.get("/console/static/0123456789abcdef/js/main.js")
    assert (found.status, found.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("name", ["x.js", "../assets.py", "js/../../assets.py", "index.html", "js", "", "js/main.js/"])
def test_there_is_no_other_file(api: Api, name: str) -> None:
    answer = api.get(f"/console/static/{Assets().version}/{name}")
    assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_files_are_packed_for_those_who_take_that(api: Api) -> None:
    path = f"/console/static/{Assets().version}/js/main.js"
    plain, packed = api.get(path), api.get(path, [("Accept-Encoding", "gzip, br")])
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_a_person_at_the_top_finds_the_console_the_documentation_and_whether_it_is_alive(api: Api) -> None:
    page = api.get("/", HTML)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert {"console", "docs", "healthz", "readyz"} <= set(Links(page.body.decode()).found)
    assert "Yes: a request sent now will be answered." in page.body.decode()


def test_a_program_at_the_top_gets_the_same_as_json(api: Api) -> None:
    assert json.loads(api.get("/").body) == {
        "name": "headrace",
        "console": "/console",
        "documentation": "/docs",
        "openapi": "/openapi.json",
        "alive": "/healthz",
        "ready": "/readyz",
    }


def test_the_page_needs_no_key_and_what_it_shows_does(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{"0" * 64}"\n')
    with Api(settings=Settings(keys_file=str(keys))) as api:
        for path in ("/", "/console", f"/console/static/{Assets().version}/js/main.js"):
            assert api.get(path).status == 200, path
        for path in ("/console/session", "/console/static", "/v1/models"):
            assert api.get(path).status == 401, path


def test_a_path_that_a_setting_gave_to_inference_needs_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[keys.alice]\nsha256 = "{"0" * 64}"\n')
    settings = Settings(keys_file=str(keys), predict_route="/", default_model="echo")
    with Api(settings=settings) as api:
        assert api.get("/", method="POST").status == 401


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_make_no_markup_and_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert MARKUP.findall(text) == []
    assert len(text.splitlines()) < MOST_LINES


def test_all_of_our_script_is_small() -> None:
    assets = Assets()
    sizes = [len(found.body) for path in SCRIPTS if (found := assets.get(f"js/{path.name}"))]
    assert len(sizes) == len(SCRIPTS)
    assert sum(sizes) < MOST_BYTES


def test_scripts_go_without_comments_and_say_the_same() -> None:
    script = "// why\n/** What.\n * More.\n */\nconst a = 'http://x'; // said\n\tconst b = `// ${a}`;\n\n\treturn a;\n"
    assert lean(script) == "const a = 'http://x';const b = `// ${a}`;return a;"
    assert lean("f(\n\ta,\n\t[\n\t\tb,\n\t],\n);\nif (c) {\n\td();\n}\ne();\n") == "f(a,[b,],);if (c) {d();}\ne();"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize("path", [one for one in SCRIPTS if one.name != "theme.js"], ids=lambda path: path.name)
def test_scripts_without_comments_are_still_scripts(path: Path) -> None:
    command = ["node", "--check", "--input-type=module"]
    done = subprocess.run(command, input=lean(path.read_text(encoding="utf-8")), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_vendored_comes_with_its_licence() -> None:
    for folder, name in (("vendor", "uPlot"), ("fonts", "inter")):
        assert "ermission" in (STATIC / folder / f"{name}.LICENSE.txt").read_text(encoding="utf-8")
