"""docs/share.md in real clones: S3, a cache for a team, the history of runs, experiments."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.running import call, clone, committed_copy, dvc, git, mark, stages_run

pytestmark = pytest.mark.long

BUCKET, KEY, SECRET = "team-bucket", "testing", "not-a-secret-of-anybody"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an S3 server with one empty bucket; its credentials are in the environment."""
    pytest.importorskip("dvc_s3", reason="dvc-s3 is not installed: make extras")
    server_module = pytest.importorskip("moto.server", reason="moto is not installed: make extras")
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: make extras")
    for name, value in (("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET),
                        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")):  # fmt: skip
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        server.stop()


def test_s3(smoke: Path, tmp_path: Path, s3: str) -> None:
    author = committed_copy(smoke, tmp_path / "author", "team", f"s3://{BUCKET}/mark")
    dvc(author, "remote", "modify", "-q", "team", "endpointurl", s3)
    git(author, "commit", "-qam", "where the server is")
    dvc(author, "push")
    colleague = clone(author, tmp_path / "colleague")
    dvc(colleague, "pull")
    assert stages_run(dvc(colleague, "repro")) == []
    assert (colleague / "models/random_lora/adapter_model.safetensors").is_file()
    assert SECRET not in "".join(path.read_text() for path in (author / ".dvc").glob("config*"))

    import boto3

    stored = boto3.client("s3", endpoint_url=s3).list_objects_v2(Bucket=BUCKET)["Contents"]
    assert len(stored) > 40 and all(found["Key"].startswith("mark/files/md5/") for found in stored)


def test_one_cache_for_a_team_on_one_machine(smoke: Path, tmp_path: Path) -> None:
    author = committed_copy(smoke, tmp_path / "author")
    cache = tmp_path / "cache"
    cache.mkdir()
    colleagues = [clone(author, tmp_path / name) for name in ("first", "second")]
    for folder in (author, *colleagues):
        for setting in (("cache.dir", str(cache)), ("cache.shared", "group"),
                        ("cache.type", "reflink,hardlink,symlink,copy")):  # fmt: skip
            dvc(folder, "config", "-q", "--local", *setting)
    os.rename(author / ".dvc/cache/files", cache / "files")  # what was there is moved once
    for folder in colleagues:
        dvc(folder, "checkout")  # no remote, nothing is copied or sent
        assert stages_run(dvc(folder, "repro")) == []
    chunks = [folder / "data/chunks.jsonl" for folder in colleagues]
    assert chunks[0].samefile(chunks[1])  # hard links of one file
    assert not os.access(chunks[0], os.W_OK) or os.geteuid() == 0
    assert stat.S_IMODE(chunks[0].stat().st_mode) & 0o222 == 0  # nobody edits the team's file by mistake

    mark(colleagues[0], "params", "experiment=smoke", "train.lora.r=2")
    assert stages_run(dvc(colleagues[0], "repro", "train")) == ["train"]
    mark(colleagues[1], "params", "experiment=smoke", "train.lora.r=2")
    assert (
        stages_run(dvc(colleagues[1], "repro", "train")) == []
    )  # the first one's run is in the shared history
    folders = [path for path in (cache / "files/md5").iterdir() if path.is_dir()]
    made = [path for path in folders if stat.S_IMODE(path.stat().st_mode) & stat.S_ISGID]
    assert made and all(path.stat().st_mode & stat.S_IWGRP for path in made)  # new ones belong to the group
    assert (colleagues[1] / "models/random_lora/adapter_model.safetensors").stat().st_nlink > 1  # not a copy


def test_the_history_of_runs_brings_back_train_and_rlhf_without_dvc_lock(smoke: Path, tmp_path: Path) -> None:
    author = committed_copy(smoke, tmp_path / "author", "team", str(tmp_path / "storage"))
    dvc(author, "push", "--run-cache")
    colleague = clone(author, tmp_path / "colleague")
    lock = (colleague / "dvc.lock").read_text()
    (colleague / "dvc.lock").unlink()
    dvc(colleague, "fetch", "--run-cache")
    output = dvc(colleague, "repro", "--pull", "rlhf")
    # eval writes metrics that git keeps, which no remote holds: it is run, and gives the same
    assert stages_run(output) == ["eval@random_lora"]
    for stage in ("corpus", "base_model", "ingest", "data_prep", "train", "rlhf"):
        assert f"Stage '{stage}' is cached - skipping run, checking out outputs" in output
    assert git(colleague, "status", "--porcelain").splitlines() == [" M dvc.lock"]
    assert set((colleague / "dvc.lock").read_text().splitlines()) <= set(lock.splitlines())


def test_pull_brings_the_history_of_runs_for_another_setting(smoke: Path, tmp_path: Path) -> None:
    author = committed_copy(smoke, tmp_path / "author", "team", str(tmp_path / "storage"))
    mark(author, "params", "experiment=smoke", "train.lora.r=2")
    dvc(author, "repro", "train")
    dvc(author, "push", "--run-cache")  # the lock of rank 2 is never committed
    git(author, "checkout", "-q", ".")
    dvc(author, "checkout", "-q")
    dvc(author, "push")
    colleague = clone(author, tmp_path / "colleague")
    dvc(colleague, "pull", "--run-cache")
    mark(colleague, "params", "experiment=smoke", "train.lora.r=2")
    assert stages_run(dvc(colleague, "repro", "--pull", "train")) == []
    assert '"r": 2' in (colleague / "models/random_lora/entry.json").read_text()


def test_an_experiment_goes_from_clone_to_clone(smoke: Path, tmp_path: Path) -> None:
    first = committed_copy(smoke, tmp_path / "first", "team", str(tmp_path / "storage"))
    origin = tmp_path / "origin.git"
    git(first, "clone", "-q", "--bare", str(first), str(origin))
    git(first, "remote", "add", "origin", str(origin))
    dvc(first, "push")
    dvc(
        first,
        "exp",
        "run",
        "--temp",
        "-n",
        "rank-6",
        "-S",
        "experiment=smoke",
        "-S",
        "train.lora.r=6",
        "train",
    )
    dvc(first, "exp", "push", "origin", "rank-6")

    second = tmp_path / "second"
    git(first, "clone", "-q", str(origin), str(second))
    dvc(second, "pull", "-q")
    assert "rank-6" in dvc(second, "exp", "list", "origin")
    dvc(second, "exp", "pull", "origin", "rank-6")
    line = next(row for row in mark(second, "experiments").splitlines() if row.startswith("rank-6"))
    assert "train.lora.r=6" in line and line.split()[3] != "-"  # its curve came along
    dvc(second, "exp", "apply", "rank-6")
    assert stages_run(dvc(second, "repro", "train")) == []
    call(second, "git", "checkout", "-q", ".")
    assert "conf/train/best.yaml: smoke with lora.r=6" in mark(second, "promote-params", "rank-6")
