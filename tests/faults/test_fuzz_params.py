"""Overrides and YAML files of any kind: settings, or a line for each fault that names the file or the key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mark.commands.params import compose, recorded_overrides
from mark.commands.training import train_settings
from mark.config import PARAMS, load_params, load_seed
from mark.errors import ConfigError
from tests.conftest import ROOT
from tests.faults.mutations import examples, mutated

TOKENS = [
    b": ", b"\n", b"\t", b"- ", b"[", b"{", b"}", b"&a ", b"*a", b"!!python/object/apply:os.system [true]", b"!!binary x",
    b"${seed}", b"${oc.env:HOME}", b"${", b"???", b"null", b"~", b"1e999", b".nan", b"-1", b"on", b"0x10", b"\xff",
    b"\x00", b"---\n", b"...\n", b"'", b'"', b"#", b"<<: *a", b"[" * 1500, b"2026-01-01", b"1:30",
]  # fmt: skip
KEYS = ["seed", "train.lora.r", "train", "experiment", "model", "ingest.chunk_tokens", "rlhf.method", "serve.port",
        "corpus.documents", "retrieval.reranker", "paths.logs", "nothing", "train.nothing", "hydra.run.dir"]  # fmt: skip
VALUES = ["1", "-1", "0", "1e999", "null", "true", "[a,b]", "[", "{a: 1}", "${seed}", "${oc.env:PATH}", "${nope}", "demo",
          "nope", "../demo", "'", "a b", "é", "9" * 30, "???", ""]  # fmt: skip
OVERRIDES = st.one_of(
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["", "+", "++", "~", "/"]),
        st.sampled_from(KEYS),
        st.sampled_from(VALUES),
    ),
    st.text(max_size=20),
)


def told(fault: ConfigError) -> None:
    """Each line is one fault."""
    lines = str(fault).splitlines()
    assert lines and all(line.strip() and len(line) < 1000 for line in lines), str(fault)
    assert "Traceback" not in str(fault)


@examples(few=25, many=1500)
def test_overrides(limits: settings) -> None:
    @limits
    @given(overrides=st.lists(OVERRIDES, max_size=3))
    def check(overrides: list[str]) -> None:
        try:
            text = compose(overrides, ROOT)
        except ConfigError as fault:
            told(fault)
            assert len(str(fault).splitlines()) == 1 or "conf" in str(fault)
        else:
            assert set(yaml.safe_load(text)) >= {"seed", "train", "serve"}

    check()


@examples(few=60, many=3000)
def test_params_yaml(limits: settings, tmp_path: Path) -> None:
    path = tmp_path / PARAMS
    shorter = "\n".join((ROOT / PARAMS).read_text().splitlines()[:60])

    @limits
    @given(content=mutated([(ROOT / PARAMS).read_bytes(), shorter.encode()], TOKENS))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        for load in (load_params, load_seed):
            try:
                load(path)
            except ConfigError as fault:
                told(fault)
                assert str(path) in str(fault)
        recorded_overrides(content.decode("utf-8", "replace"))

    check()


@examples(few=60, many=3000)
def test_a_file_laid_over_the_training_settings(limits: settings, tmp_path: Path) -> None:
    shutil.copy(ROOT / PARAMS, tmp_path)
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    path = tmp_path / "mine.yaml"
    mine = [b"train:\n  epochs: 1\n  lora:\n    r: 4\n", b"max_steps: 2\nreport_to: [dvclive]\n"]

    @limits
    @given(content=mutated(mine, TOKENS))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            train_settings(path, tmp_path)
        except ConfigError as fault:
            told(fault)
            assert "mine.yaml" in str(fault)

    check()


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch {marker}']", "!!python/name:os.system"]
)
def test_yaml_runs_no_code(text: str, tmp_path: Path) -> None:
    (tmp_path / PARAMS).write_text("seed: " + text.format(marker=tmp_path / "marker") + "\n")
    with pytest.raises(ConfigError):
        load_seed(tmp_path / PARAMS)
    assert not (tmp_path / "marker").exists()
