"""Loading model folders: base models, entries (base + LoRA adapter) and the embedder."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mark.errors import ModelError
from mark.files import ADAPTER, BASE_MODELS, MODELS, git_root
from mark.models.embedder import Embedder
from mark.models.faults import LOAD_FAULTS, first_line
from mark.models.quiet import quiet_progress
from mark.models.source_file import base_sha256, read_source, storage_in
from mark.models.special_ids import set_special_ids
from mark.models.storage import Storage, is_placed

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["Embedder", "load_base", "load_entry", "load_model", "preferred_dtype"]

log = logging.getLogger(__name__)


def load_base(
    folder: Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    storage: Storage | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, in evaluation mode.

    Args:
        folder: A folder of `fetch_model`.
        dtype: Of the weights in memory; where the record has them in 4 bits or spread over devices, what the
            device does best instead.
        device: `cpu`, `cuda`, `cuda:0`, ...
        storage: How the weights are held; None = as the folder's SOURCE.json says.

    Returns:
        Model and tokenizer; padding side left, pad and EOS ids set on both.

    Raises:
        ModelError: The folder is missing, no model, incomplete or damaged.
        MarkError: This machine cannot hold the weights so; a part of them in its main memory or on its disk
            does not count.
    """
    from transformers import AutoModelForCausalLM

    _need_folder(folder)
    if storage is None:
        storage = storage_in(folder)
        dtype = preferred_dtype(device) if storage.placed else dtype
    storage.check(torch.device(device))
    tokenizer = load_tokenizer(folder)
    try:
        with quiet_progress():
            model, info = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
                **storage.arguments(dtype, torch.device(device)),
            )  # fmt: skip
    except LOAD_FAULTS as fault:
        raise _unreadable(folder, fault) from None
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing ({missing[0]}, ...); fetch it anew")
    if any(parameter.is_meta for parameter in model.parameters()):  # peft would leave adapters there empty
        raise ModelError(
            f"{folder} does not fit the GPUs of this machine together; set model.quantization to nf4, or take "
            "more or larger ones"
        )
    set_special_ids(model, tokenizer)
    if model.config.model_type == "mamba":
        from mark.models.scan import install

        install()
    return (model if storage.placed else model.to(device)).eval(), tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The folder's tokenizer, padding on the left.

    Raises:
        ModelError: It cannot be read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerBase

    try:
        with quiet_progress():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, padding_side="left")
    except LOAD_FAULTS as fault:
        raise _unreadable(folder, fault) from None
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return tokenizer


def load_entry(
    entry: Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    storage: Storage | None = None,
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load an entry: its base model with the LoRA adapter on top, in evaluation mode.

    `model.disable_adapter()` gives the base model back for a block.

    Args:
        entry: `models/<entry>/` with entry.json, adapter and tokenizer.
        dtype: Of the weights in memory.
        device: `cpu`, `cuda`, ...
        storage: How the base's weights are held; None = as its SOURCE.json says.

    Raises:
        ModelError: entry.json, adapter or base is missing or damaged.
    """
    from peft import PeftModel

    base = entry_base(entry)
    if not (entry / ADAPTER).is_file():
        raise ModelError(f"{entry} holds no {ADAPTER}; run `dvc repro train` (or `dvc pull`)")
    _check_base(entry, base)
    model, tokenizer = load_base(base, dtype, device, storage)
    try:
        with quiet_progress():
            tuned = PeftModel.from_pretrained(model, entry, torch_device=str(device))
    except LOAD_FAULTS as fault:
        raise _unreadable(entry, fault, stage="train") from None
    _check_adapter(tuned, entry)
    if (entry / "tokenizer_config.json").is_file():
        tokenizer = load_tokenizer(entry)
        set_special_ids(tuned.get_base_model(), tokenizer)
    return (tuned if is_placed(tuned) else tuned.to(device)).eval(), tokenizer


def entry_base(entry: Path) -> Path:
    """The folder of an entry's base model.

    Raises:
        ModelError: entry.json is missing or names no base.
    """
    try:
        base = json.loads((entry / "entry.json").read_text(encoding="utf-8"))["base"]
    except FileNotFoundError:
        raise ModelError(f"{entry} holds no entry.json; run `dvc repro train` (or `dvc pull`)") from None
    except (ValueError, KeyError, TypeError) as fault:
        raise ModelError(
            f"{entry}/entry.json names no base ({type(fault).__name__}); run `dvc repro -f train`"
        ) from None
    return entry.parent / "base" / str(base)


def load_model(
    name: str,
    root: Path | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device | None = None,
    merge: bool = False,
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, torch.device]:
    """Load a base model or an entry by name; says which device and dtype it took.

    Args:
        name: `transformer` (models/base/transformer), an entry such as `transformer_lora`, or `champion`.
        root: The project's root; by default found from the working folder.
        dtype: Of the weights; None = `preferred_dtype`.
        device: None = a GPU where there is one.
        merge: Add an entry's adapter into the weights (in float32): a plain model that answers faster. Not
            done where the weights are in 4 bits or spread over devices.

    Returns:
        Model (evaluation mode), tokenizer and device.

    Raises:
        ModelError: There is no such model; names those that there are.
    """
    root = git_root() if root is None else root
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(device)
    dtype = preferred_dtype(device) if dtype is None else dtype
    base, entry = root / BASE_MODELS / name, root / MODELS / name
    if name and (base / "config.json").is_file():
        model, tokenizer = load_base(base, dtype, device)
        _say(f"{name} on {device}, {dtype}")
        return model, tokenizer, device
    if name and (entry / "entry.json").is_file():
        tuned, tokenizer = load_entry(entry, torch.float32 if merge else dtype, device)
        merge = merge and not is_placed(tuned)
        merged = tuned.merge_and_unload(safe_merge=True).to(dtype).eval() if merge else tuned
        _say(f"{name} on {device}, {dtype}" + (", merged" if merge else ""))
        return merged, tokenizer, device
    known = sorted({p.parent.name for p in root.glob("models/base/*/config.json")})
    known += sorted({p.parent.name for p in root.glob("models/*/entry.json")})
    there = f"there are: {', '.join(known)}" if known else "there are none"
    raise ModelError(f"no model named {name!r} under {root / MODELS} ({there}); run `dvc repro base_model`")


def _say(line: str) -> None:
    """To the log; to stderr where nobody has set up logging, as in an interactive session."""
    log.info("%s", line)
    if not log.hasHandlers():
        sys.stderr.write(f"{line}\n")


def preferred_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32. For inference."""
    if torch.device(device).type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return torch.bfloat16 if native else torch.float32


def _check_base(entry: Path, base: Path) -> None:
    """An adapter on other weights than it was trained on loads, and answers worse without a word."""
    _need_folder(base)
    trained_on = json.loads((entry / "entry.json").read_text(encoding="utf-8")).get("base_sha256")
    found = base_sha256(read_source(base))
    if trained_on != found:
        raise ModelError(
            f"{entry} was trained on other weights ({str(trained_on)[:12]}...) than {base} holds "
            f"({found[:12]}...); run `dvc repro train`, or bring that base back with `mark params` and "
            "`dvc repro base_model`"
        )


def _check_adapter(model: PeftModel, entry: Path) -> None:
    """peft only warns about adapter weights that it does not find; here they are an error."""
    from peft.utils import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(entry / ADAPTER, framework="pt") as handle:
        stored = set(handle.keys())
    wanted = set(get_peft_model_state_dict(model))
    if stored != wanted:
        odd = sorted(stored ^ wanted)
        raise ModelError(f"{entry}: the adapter does not fit its base ({len(odd)} weights, {odd[0]}, ...)")


def _need_folder(folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    state = "holds no config.json" if folder.is_dir() else "is missing"
    raise ModelError(f"model folder {folder} {state}; run `dvc repro base_model` (or `dvc pull`)")


def _unreadable(folder: Path, fault: Exception, stage: str = "base_model") -> ModelError:
    """One line for whatever transformers, peft or safetensors raise about a damaged folder."""
    if isinstance(fault, torch.cuda.OutOfMemoryError):
        return ModelError(f"{folder} does not fit the GPU's memory; free some or set CUDA_VISIBLE_DEVICES=")
    return ModelError(f"{folder} cannot be loaded ({first_line(fault)}); run `dvc repro -f {stage}`")
