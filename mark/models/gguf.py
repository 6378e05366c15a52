"""Reading a quantised GGUF file into an ordinary transformers folder."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mark.errors import ModelError
from mark.models.faults import LOAD_FAULTS, first_line
from mark.models.quiet import quiet_progress
from mark.models.special_ids import set_special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel

log = logging.getLogger(__name__)


def convert_gguf(path: Path, folder: Path) -> None:
    """Write the model of a GGUF file as float32 safetensors with its tokenizer.

    Args:
        path: The GGUF file.
        folder: An existing folder that receives config, weights and tokenizer.

    Raises:
        ModelError: The file is damaged or of an architecture that transformers cannot read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("converting %s to safetensors (about half a minute)", path.name)
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        # The converter draws its bar on stderr, whatever transformers' own switch says.
        with quiet_progress(), contextlib.redirect_stderr(io.StringIO()):
            model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(**where)
    except LOAD_FAULTS as fault:
        raise ModelError(f"{path.name} cannot be read as GGUF ({first_line(fault)})") from None
    _forget_quantization(model)
    set_special_ids(model, tokenizer)
    with quiet_progress():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _forget_quantization(model: PreTrainedModel) -> None:
    """The weights are plain float32 by now; without this transformers refuses to save them."""
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
