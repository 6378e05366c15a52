"""The web page's files: what is served for them, to whom, and what must not stand in them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

from mark.serve.security import SECURITY_HEADERS
from mark.serve.web_page import STATIC, web_files
from tests.conftest import ROOT
from tests.serve.conftest import TOKEN, StartServer

FILES = sorted(path for path in STATIC.iterdir() if path.is_file())
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name that is never fetched
UNSAFE = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\b"
    r"|new Function|https?://|[\"'(]//|javascript:|\sstyle=|\son[a-z]+=|@import|localhost",
    re.IGNORECASE,
)


def anonymous(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False)


def test_the_page_needs_no_token_and_its_data_does(start: StartServer) -> None:
    live = start(models=(), token=TOKEN)
    with anonymous(live.url) as client:
        home = client.get("/")
        assert home.status_code == 200 and home.headers["content-type"] == "text/html; charset=utf-8"
        assert home.content == (STATIC / "index.html").read_bytes()
        for path in FILES:
            found = client.get(f"/static/{path.name}")
            assert (found.status_code, found.content) == (200, path.read_bytes()), path.name
        for path in ("/v1/documents", "/v1/models", "/openapi.json", "/static/", "/static/nothing.js"):
            assert client.get(path).status_code == 401, path


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.css", "text/css; charset=utf-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_types_and_headers(start: StartServer, name: str, media_type: str) -> None:
    live = start(models=())
    with live.client() as client:
        found = client.get(f"/static/{name}")
        assert found.headers["content-type"] == media_type
        expected = SECURITY_HEADERS | {"cache-control": "no-cache"}
        assert {key: found.headers[key] for key in SECURITY_HEADERS} == expected
        assert client.get("/v1/models").headers["cache-control"] == "no-store"
        head = client.head(f"/static/{name}")
        assert (head.status_code, head.content) == (200, b"") and head.headers["etag"] == found.headers[
            "etag"
        ]
        assert client.post(f"/static/{name}").status_code == 405


def test_an_unchanged_file_is_not_sent_again(start: StartServer) -> None:
    live = start(models=())
    with live.client() as client:
        tag = client.get("/static/app.js").headers["etag"]
        for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = client.get("/static/app.js", headers={"If-None-Match": sent})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        for sent in ('"other"', "", client.get("/static/app.css").headers["etag"]):
            assert client.get("/static/app.js", headers={"If-None-Match": sent}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/nothing.js", "/static/", "/static", "/static/../page.py", "/static/%2e%2e/page.py",
        "/static/..%2fpage.py", "/static/%2e%2e%2f%2e%2e%2fpage.py", "/static//app.js",
        "/static/app.js%00", "/static/APP.JS", "/page.py", "/index.html",
    ],
)  # fmt: skip
def test_other_names_are_unknown(start: StartServer, path: str) -> None:
    live = start(models=())
    with live.client() as client:
        found = client.send(client.build_request("GET", httpx.URL(live.url, raw_path=path.encode())))
        assert found.status_code == 404 and "def " not in found.text


def test_a_changed_folder_does_not_change_a_running_page(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>one")
    (tmp_path / "notes.py").write_text("secret = 1")
    files = web_files(tmp_path)
    (tmp_path / "index.html").write_text("<p>two")
    assert set(files) == {"/", "/static/index.html"} and files["/"].content == b"<p>one"
    assert web_files(tmp_path)["/"].etag != files["/"].etag


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_makes_markup_of_text_or_reaches_elsewhere(path: Path) -> None:
    found = UNSAFE.findall(path.read_text(encoding="utf-8").replace(SVG_NAMESPACE, ""))
    assert found == [], f"{path.name}: {found}"


@pytest.mark.parametrize(
    "line",
    [
        "a.innerHTML = b", 'fetch("//elsewhere.example/x")', '<p style="color:red">', '<img onerror="x()">',
        'import("https://elsewhere.example/a.js")', "eval(text)",
    ],
)  # fmt: skip
def test_the_search_for_unsafe_code_finds_it(line: str) -> None:
    assert UNSAFE.search(line)


def test_all_that_the_page_loads_is_there() -> None:
    own = {f"/static/{path.name}" for path in FILES}
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="(/[^"]+)"', page)) <= own
    for path in STATIC.glob("*.js"):
        for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
            assert (STATIC / name).is_file(), f"{path.name} imports {name}"
    listed = re.search(r"const LOADED = \[(.+)\]", (STATIC / "tabs.js").read_text(encoding="utf-8"))
    assert listed is not None
    for name in re.findall(r'"(\w+)"', listed[1]):
        assert (STATIC / f"{name}.js").is_file(), f"tabs.js opens {name}"


def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "mark", source / "mark", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(command, check=True, cwd=source)
    (wheel,) = source.glob("mark-*.whl")
    assert {f"mark/serve/static/{path.name}" for path in FILES} <= set(zipfile.ZipFile(wheel).namelist())
