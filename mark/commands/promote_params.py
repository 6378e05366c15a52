"""`mark promote-params`: an experiment's settings become group files that `experiment=best` selects."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mark.commands.conf_groups import Groups, Values, differing, leaves
from mark.commands.params import compose
from mark.commands.revisions import read_at
from mark.config import PARAMS, Params, validate
from mark.errors import ConfigError
from mark.files import write_text
from mark.reproduce.dvc_yaml import read_mapping

BEST = "best"
CONF = Path("conf")
_EXPERIMENT = "experiment"
_BY = "by `mark promote-params"  # in the head of each file that is written here


@dataclass(frozen=True)
class _Base:
    """The options of one section's groups that come nearest to an experiment, and what they lack."""

    options: dict[str, str]  # group -> option
    changes: dict[str, Any]  # dotted key -> value


@dataclass(frozen=True)
class _BestFile:
    """A file to write, and what to say of it."""

    path: Path  # below the root
    text: str
    told: str


def promote_params(experiment: str, root: Path) -> str:
    """Write conf/<group>/best.yaml for each group that the experiment changed, and conf/experiment/best.yaml.

    Each best.yaml builds on the option that comes nearest and holds the keys that differ from it. Nothing is
    composed into params.yaml.

    Args:
        experiment: The name of a DVC experiment, or a commit.
        root: The project's root.

    Returns:
        The text to print: what was written, and the next command.

    Raises:
        ConfigError: The experiment's params.yaml does not fit this version, or conf/ cannot give it.
        DataError: There is no such experiment.
    """
    wanted = _wanted(experiment, root)
    files, rest = _files(wanted, Groups(root / CONF), experiment)
    overrides = [f"{_EXPERIMENT}={BEST}", *(f"{key}={_literal(value)}" for key, value in rest.items())]
    _check(wanted, files, overrides, root)
    for file in files:
        _refuse_handmade(root / file.path)
    for file in files:
        write_text(root / file.path, file.text)
    lines = [f"{file.path.as_posix()}: {file.told}" for file in files]
    if rest:
        lines.append(f"{', '.join(rest)} stands in no group and is given on the command line")
    written = shlex.join(file.path.as_posix() for file in files)
    lines.append(f"next: git add {written} && {shlex.join(['mark', 'params', *overrides])}")
    return "\n".join(lines)


def _refuse_handmade(path: Path) -> None:
    """A file that somebody else called best.yaml stays as it is."""
    if path.is_file() and _BY not in path.read_text(encoding="utf-8"):
        raise ConfigError(
            f"{path} was not written {_BY}` and would be lost, nothing was written; give it another name"
        )


def _wanted(experiment: str, root: Path) -> Values:
    """The experiment's params.yaml, validated."""
    name = f"{experiment}:{PARAMS}"
    values = read_mapping(read_at(experiment, PARAMS, root), name)
    validate(Params, values, "", Path(name))
    return values


def _files(wanted: Values, groups: Groups, experiment: str) -> tuple[list[_BestFile], dict[str, Any]]:
    """The files to write, and the values that no group holds."""
    sections: dict[str, list[str]] = {}
    for group in groups.in_order():
        if group != _EXPERIMENT:
            sections.setdefault(group.partition("/")[0], []).append(group)
    files: list[_BestFile] = []
    selected: dict[str, str] = {}
    for section, names in sections.items():
        base = _nearest(section, names, wanted, groups)
        selected |= base.options
        for group, changes in _by_group(base, groups).items():
            if changes or BEST in groups.options(group):
                files.append(_group_file(group, base.options[group], changes, experiment))
                selected[group] = BEST
    files.append(_experiment_file(selected, experiment))
    rest = {key: value for key, value in wanted.items() if key not in sections}
    plain = groups.top()
    return files, differing(rest, {key: plain.get(key) for key in rest})


def _nearest(section: str, names: list[str], wanted: Values, groups: Groups) -> _Base:
    """The options with the fewest differing values; `best` is never built on itself."""
    options = [[option for option in groups.options(group) if option != BEST] for group in names]
    found = []
    for picked in itertools.product(*options):
        choice = dict(zip(names, picked, strict=True))
        composed = groups.section(section, choice, wanted)
        found.append(_Base(choice, differing(wanted.get(section), composed, section)))
    return min(found, key=lambda base: len(base.changes))


def _by_group(base: _Base, groups: Groups) -> dict[str, dict[str, Any]]:
    """Which group's file each change goes to: the last that sets the key is laid over the others."""
    found: dict[str, dict[str, Any]] = {group: {} for group in base.options}
    if len(found) == 1:
        return {group: base.changes for group in found}
    sets = {group: leaves(groups.own(group, option)).keys() for group, option in base.options.items()}
    for key, value in base.changes.items():
        owners = [group for group, keys in sets.items() if key.partition(".")[2] in keys]
        found[owners[-1] if owners else next(iter(found))][key] = value
    return found


def _group_file(group: str, option: str, changes: dict[str, Any], experiment: str) -> _BestFile:
    head = [f"# @package {group.partition('/')[0]}"] if "/" in group else []
    head.append(f"# Written {_BY} {experiment}`; the next promotion writes it anew.")
    own = {key.partition(".")[2]: value for key, value in changes.items()}
    tree: Values = {"defaults": [option, "_self_"]}
    for key, value in own.items():
        inner = tree
        *parents, last = key.split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return _BestFile(
        CONF / group / f"{BEST}.yaml",
        "\n".join([*head, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)]),
        " ".join([option, "with", ", ".join(f"{key}={_literal(value)}" for key, value in own.items())])
        if own
        else f"{option} as it is",
    )


def _experiment_file(selected: Mapping[str, str], experiment: str) -> _BestFile:
    lines = [
        "# @package _global_",
        f"# mark params experiment=best: written {_BY} {experiment}`.",
        "defaults:",
        *(f"  - override /{group}: {option}" for group, option in selected.items()),
    ]
    return _BestFile(
        CONF / _EXPERIMENT / f"{BEST}.yaml",
        "\n".join([*lines, ""]),
        f"selects {', '.join(f'{group}={option}' for group, option in selected.items() if option == BEST)}"
        " and the experiment's other options",
    )


def _check(wanted: Values, files: list[_BestFile], overrides: list[str], root: Path) -> None:
    """Compose from a copy of conf/ with the new files in it, before anything is written."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(root / CONF, Path(folder) / CONF)
        for file in files:
            write_text(Path(folder) / file.path, file.text)
        composed = read_mapping(compose(overrides, Path(folder)), PARAMS.as_posix())
    wrong = differing(wanted, composed)
    if wrong:
        key, value = next(iter(wrong.items()))
        raise ConfigError(
            f"{key}={_literal(value)} of the experiment does not come out of conf/, nothing was written; run "
            f"`{shlex.join(['mark', 'params', f'{key}={_literal(value)}'])}` instead"
        )


def _literal(value: Any) -> str:
    """A value in Hydra's override syntax."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(_literal(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][\w./-]*", value):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)
