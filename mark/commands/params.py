"""Composing params.yaml from conf/ and comparing the two."""

from __future__ import annotations

import difflib
import re
import shlex
import tempfile
from pathlib import Path

from mark.config import PARAMS, load_params
from mark.errors import ConfigError
from mark.files import write_text

_RECORD = "# mark params"


def compose(overrides: list[str], root: Path) -> str:
    """The text of params.yaml for these Hydra overrides, validated.

    Args:
        overrides: e.g. `["experiment=proof", "train.lora.r=16"]`.
        root: The project's root, which holds conf/.

    Raises:
        ConfigError: An override names no group, option or key, or a value is out of range.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / PARAMS.name
        GlobalHydra.instance().clear()
        try:
            compose_and_dump(target, str((root / "conf").resolve()), None, "config", folder, overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as fault:
            raise ConfigError(_hydra_line(str(fault), root)) from None
        try:
            load_params(target)
        except ConfigError as fault:
            raise ConfigError(str(fault).replace(str(target), "conf")) from None
        return target.read_text(encoding="utf-8")


def write_params(overrides: list[str], root: Path) -> bool:
    """Compose and write params.yaml; its first line remembers the overrides, so that a check knows them.

    Returns:
        Whether the file changed.
    """
    path = root / PARAMS
    text = _recorded(overrides) + compose(overrides, root)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_text(path, text)
    return True


def recorded_overrides(text: str) -> list[str]:
    """The overrides that params.yaml was composed with, from its first line."""
    first = text.splitlines()[0] if text else ""
    return shlex.split(first.removeprefix(_RECORD)) if first.startswith(_RECORD) else []


def _recorded(overrides: list[str]) -> str:
    return f"{_RECORD} {shlex.join(overrides)}\n" if overrides else ""


def check_params(root: Path, overrides: list[str]) -> None:
    """Compare params.yaml with what conf/ gives for the overrides that it was composed with.

    Args:
        root: The project's root.
        overrides: In place of the recorded ones, where there are any.

    Raises:
        ConfigError: They differ; names the first difference and both remedies.
    """
    path = root / PARAMS
    if not path.is_file():
        raise ConfigError("params.yaml is missing; run `mark params` to compose it from conf/")
    found = path.read_text(encoding="utf-8")
    wanted = overrides or recorded_overrides(found)
    composed = _recorded(wanted) + compose(wanted, root)
    if found == composed:
        return
    lines = difflib.unified_diff(found.splitlines(), composed.splitlines(), lineterm="", n=0)
    changed = [line for line in lines if re.match(r"^[-+](?![-+])", line)]
    raise ConfigError(
        f"params.yaml differs from conf/ in {len(changed)} lines, first `{changed[0]}`; "
        f"run `{shlex.join(['mark', 'params', *wanted])}` to take conf/, or put the values into a group file "
        "under conf/ to keep them (`mark promote-params EXP` does, after `dvc exp apply EXP`)"
    )


def _hydra_line(message: str, root: Path) -> str:
    """Hydra's message as one line, with the options that it knows."""
    if "override_grammar" in message:
        return (
            f"override not understood: {message.splitlines()[0][:120]}; write KEY=VALUE, e.g. train.lora.r=8"
        )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    missing = re.match(r"In '.*': Could not (?:find|load) '([^']+)'", lines[0])
    key = re.search(r"Could not override '([^']+)'", message)
    if missing:
        group, _, option = missing.group(1).rpartition("/")
        options = sorted(p.stem for p in (root / "conf" / group).glob("*.yaml"))
        return f"conf/{group}: no option {option!r}; known: {', '.join(options)}"
    if key:
        return f"{key.group(1)}: unknown key; see conf/ for the right name"
    return " ".join(lines)[:300]
