"""deploy/: each file is checked by its own tool where that is installed, and against conf/serve."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mark.rlhf.feedback import read_inbox
from mark.serve.server import bound_socket
from tests.conftest import ROOT
from tests.pipeline.test_auto import QUESTIONS
from tests.serve.conftest import TOKEN, StartServer, asking, make_root, one_thread, project, start

__all__ = ["make_root", "one_thread", "project", "start"]

DEPLOY = ROOT / "deploy"
SERVE = yaml.safe_load((ROOT / "conf/serve/default.yaml").read_text())
NAME = "mark.example.org"


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: its file in deploy/ is not checked")
    return found


def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here in the place of the server's."""
    text = (DEPLOY / "mark.service").read_text()
    program = "/srv/mark/.venv/bin/mark serve"
    assert text.count(f"ExecStart={program}\n") == 1
    (tmp_path / "mark.service").write_text(text.replace(program, "/bin/true"))
    return tmp_path / "mark.service"


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", str(unit(tmp_path))], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_unit_is_locked_down(tmp_path: Path) -> None:
    """systemd's own score of what a service may do: 10 is everything, below 2 little."""
    command = [tool("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(unit(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    assert done.returncode == 0, done.stdout[-200:]


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"MARK_TOKEN": TOKEN}, 0), ({"MARK_TOKEN": TOKEN, "MARK_REVIEW_TOKEN": f"{TOKEN}-2"}, 0), ({}, 1),
        ({"MARK_REVIEW_TOKEN": f"{TOKEN}-2"}, 1), ({"MARK_TOKEN": ""}, 1), ({"MARK_TOKEN": " \t"}, 1),
    ],
)  # fmt: skip
def test_the_unit_starts_nothing_without_the_token_of_all(told: dict[str, str], status: int) -> None:
    """The server itself would start: on loopback it needs none."""
    (line,) = re.findall(r"^ExecStartPre=(.+)$", (DEPLOY / "mark.service").read_text(), re.MULTILINE)
    command = [word.replace("$$", "$") for word in shlex.split(line)]
    done = subprocess.run(command, env=told, capture_output=True, text=True)
    assert done.returncode == status and TOKEN not in line + done.stdout + done.stderr
    assert done.stderr.startswith("MARK_TOKEN is missing in /etc/mark/serve.env") is bool(status)


def test_a_stop_has_time_to_end_what_runs() -> None:
    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "mark.service").read_text(), re.MULTILINE)
    assert int(seconds) > 2 * SERVE["shutdown_s"]  # requests first, then a running ingest


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run([tool("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_gets_what_it_copies_and_no_data() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {
        name
        for names in re.findall(r"^COPY (?:--chmod=\S+ )?(?!--from)(.+) \S+$", text, re.MULTILINE)
        for name in names.split()
    }
    assert "*" in ignored and sent == copied and all((ROOT / name).exists() for name in copied)
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001:10001"]


def test_an_upload_is_ingested_where_only_tmp_can_be_written(tmp_path: Path) -> None:
    """DVC keeps its locks in /var/tmp unless it is told otherwise; the documented container has /tmp alone."""
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--read-only --tmpfs /tmp " in (ROOT / "docs/deploy.md").read_text()
    (folder,) = re.findall(r"\bDVC_SITE_CACHE_DIR=(\S+)", text)
    assert Path(folder).is_relative_to("/tmp")
    moved = os.environ | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    for command in (["init", "--no-scm", "-q"], ["status", "-q"]):
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *command], cwd=tmp_path, env=moved, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "site").is_dir()  # it is this variable that DVC reads


def check_health(port: int) -> int:
    command = [sys.executable, str(DEPLOY / "healthcheck.py")]
    return subprocess.run(
        command, env=os.environ | {"MARK_PORT": str(port)}, stderr=subprocess.DEVNULL
    ).returncode


def test_the_health_check_tells_up_from_down(start: StartServer) -> None:
    live = start(models=(), token=TOKEN)
    port = int(live.url.rsplit(":", 1)[1])
    assert check_health(port) == 0
    live.stop()
    assert check_health(port) == 1


def test_a_guard_that_refuses_the_checks_host_is_up(start: StartServer) -> None:
    """A container listens on all addresses and knows the proxy's name alone."""
    live = start(models=(), token=TOKEN, host="0.0.0.0", allowed_hosts=[NAME])
    assert httpx.get(f"{live.url}/healthz", trust_env=False).json()["error"]["code"] == "host"
    assert check_health(int(live.url.rsplit(":", 1)[1])) == 0


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"{}", 0), (403, b'{ "error": { "code": "host" } }', 0), (403, b'{"error": {"code": "origin"}}', 1),
        (403, b'"code":"host"', 1), (403, b"[]", 1), (403, b"\xff", 1), (503, b'{"error": {"code": "host"}}', 1),
    ],
)  # fmt: skip
def test_other_refusals_are_not_up(status: int, body: bytes, expected: int) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert check_health(server.server_port) == expected
        thread.join()


def certificate(folder: Path) -> None:
    """A key and a certificate that it signs itself, as deploy/nginx.conf names them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "privkey.pem").write_bytes(private)


def nginx_conf(folder: Path, backend: int, ports: tuple[int, int]) -> Path:
    """nginx's main file around deploy/nginx.conf, whose addresses and paths are those of this test."""
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"^\s+listen \[::\].*\n", "", text, flags=re.MULTILINE)
    for old, new in (
        ("127.0.0.1:8000", f"127.0.0.1:{backend}"), ("listen 80;", f"listen 127.0.0.1:{ports[0]};"),
        ("listen 443", f"listen 127.0.0.1:{ports[1]}"), ("/etc/ssl/mark", str(folder)),
        ("/var/log/nginx", str(folder)),
    ):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    temp = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "site.conf").write_text(text)
    user = "user root;\n" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"daemon off;\n{user}pid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\n{temp}include {folder}/site.conf;\n}}\n"
    )
    return folder / "nginx.conf"


def free_port() -> int:
    with bound_socket("127.0.0.1", 0) as one:
        return int(one.getsockname()[1])


def test_nginx_passes_streams_on_and_keeps_the_limits(start: StartServer, tmp_path: Path) -> None:
    """The real nginx with deploy/nginx.conf before a real server."""
    program = tool("nginx")
    certificate(tmp_path)
    live = start(models=(), token=TOKEN, allowed_hosts=[NAME], trusted_proxies=["127.0.0.1"])
    ports = (free_port(), free_port())
    conf = nginx_conf(tmp_path, int(live.url.rsplit(":", 1)[1]), ports)
    command = [program, "-e", str(tmp_path / "error.log"), "-c", str(conf)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0 and "test is successful" in checked.stderr, checked.stderr
    process = subprocess.Popen(command)
    try:
        proxied(ports, live.headers | {"Host": NAME})
    finally:
        process.terminate()
        process.wait(30)
    logged = (tmp_path / "mark.log").read_text()
    assert "POST 200" in logged and "secret-name" not in logged
    rows = read_inbox(live.root).rows
    assert (
        len(rows) == 3 and len({row.source for row in rows}) == 2
    )  # two addresses, however they call themselves


def proxied(ports: tuple[int, int], headers: dict[str, str]) -> None:
    url = f"https://127.0.0.1:{ports[1]}"
    with httpx.Client(base_url=url, headers=headers, verify=False, trust_env=False, timeout=60) as client:
        ends = time.monotonic() + 20
        while True:
            try:
                assert client.get("/healthz").json() == {"status": "ok"}
                break
            except httpx.ConnectError:
                assert time.monotonic() < ends
                time.sleep(0.1)
        moved = httpx.get(f"http://127.0.0.1:{ports[0]}/x", headers={"Host": NAME}, trust_env=False)
        assert moved.status_code == 301 and moved.headers["location"] == f"https://{NAME}/x"
        with client.stream("POST", "/v1/chat/completions", json=asking(QUESTIONS[2], stream=True)) as found:
            assert found.headers["content-type"].startswith("text/event-stream")
            assert [line for line in found.iter_lines() if line][-1] == "data: [DONE]"
        own = client.get("/v1/models", headers={"Origin": f"https://{NAME}"})
        foreign = client.get("/v1/models", headers={"Origin": "https://evil.example"})
        assert (own.status_code, foreign.status_code) == (200, 403)
        assert own.headers["strict-transport-security"] and "server" in own.headers
        assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401
        assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
        assert (
            client.post("/v1/chat/completions", content=b"x" * (SERVE["max_body_kb"] + 1 << 10)).status_code
            == 413
        )
        large: dict[str, Any] = {"file": ("secret-name.pdf", b"x" * (2 << 20))}
        assert (
            client.post("/v1/documents", files=large).status_code == 409
        )  # it reached the server: uploads are off
        client.get("/v1/documents/secret-name/pages/1.png?start=0&end=1")
    for address, claims in (
        ("127.0.0.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.2"),
        ("127.0.0.2", "127.0.0.1"),
    ):
        rate(url, headers | {"X-Forwarded-For": claims}, address)


def rate(url: str, headers: dict[str, str], address: str) -> None:
    """Rate an answer from one of this machine's addresses."""
    transport = httpx.HTTPTransport(verify=False, local_address=address)
    with httpx.Client(base_url=url, headers=headers, transport=transport, timeout=60) as client:
        said = client.post("/v1/chat/completions", json=asking(QUESTIONS[2])).json()
        assert client.post("/v1/feedback", json={"id": said["id"], "rating": "up"}).status_code == 200


def test_the_proxys_limits_fit_the_servers() -> None:
    text = (DEPLOY / "nginx.conf").read_text()
    bodies = [int(size) for size in re.findall(r"client_max_body_size (\d+)m;", text)]
    assert bodies == [SERVE["max_body_kb"] >> 10, SERVE["max_upload_mb"] + 1]
    (patience,) = re.findall(r"proxy_read_timeout (\d+)s;", text)
    assert int(patience) > SERVE["timeout_s"]
