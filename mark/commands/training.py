"""`mark train`: a dry run unless it is confirmed; with --config outside the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mark.commands.dvc import dvc, refuse_stage_output
from mark.commands.stage import LAUNCH
from mark.config import Paths, Train, load_section, load_seed, load_value, read_params, validate
from mark.errors import ConfigError
from mark.files import MODELS

if TYPE_CHECKING:
    from mark.train import TrainInputs


@dataclass(frozen=True)
class TrainRequest:
    """What `mark train` was asked for."""

    config: Path | None
    out_dir: Path | None
    confirmed: bool
    data: Path | None = None  # a folder of `mark data-prep --out-dir`

    @property
    def of_the_stage(self) -> bool:
        """Whether it is the DVC stage that is meant."""
        return self.config is None and self.out_dir is None


def train_settings(config: Path | None, root: Path) -> Train:
    """The train section, with a file laid over it.

    Args:
        config: A group file of conf/train (composed by Hydra) or any YAML with train keys.
        root: The project's root.

    Raises:
        ConfigError: The file is missing, or holds an unknown key or a wrong value.
    """
    if config is None:
        return load_section(Train, "train", root / "params.yaml")
    if config.is_dir():
        raise ConfigError(f"{config} is a folder; give a YAML file such as conf/train/lora_sft.yaml")
    if not config.is_file():
        raise ConfigError(f"{config} is missing; the guarded recipe is conf/train/lora_sft.yaml")
    if config.resolve().parent == (root / "conf/train").resolve():
        return validate(Train, _composed(config.stem, root), "train", config)
    return validate(Train, _laid_over(config, root), "train", config)


def run_training(request: TrainRequest, root: Path) -> str:
    """Plan or train; see `mark train --help`.

    Returns:
        The text to print; none in processes that train beside the first.
    """
    from mark.train import plan, train
    from mark.train.guard import check_guards
    from mark.train.processes import rank

    base = str(load_value("model", "name", root / "params.yaml"))
    settings, seed = train_settings(request.config, root), load_seed(root / "params.yaml")
    out = request.out_dir or root / MODELS / _entry_name(base, request.config)
    inputs = _inputs(request, base, root)
    if not request.confirmed:
        planned = plan(inputs, settings, seed, out)
        return planned.as_text() if rank() == 0 else ""
    check_guards(settings, confirmed=True)
    if request.of_the_stage:
        return _run_stage(out, root)
    if rank() == 0:
        refuse_stage_output([out], root)
    train(inputs, settings, seed, out, confirmed=True)
    if rank() > 0:
        return ""
    if out.resolve().parent != (root / MODELS).resolve():
        return f"{out} is trained; move it below models/ to evaluate it, its base is looked for there"
    return f"{out} is trained; `mark eval --model {out.name} --dataset FILE` measures it"


def _inputs(request: TrainRequest, base: str, root: Path) -> TrainInputs:
    from mark.train import TrainInputs

    inputs = TrainInputs.of_project(base, load_section(Paths, "paths", root / "params.yaml"), root)
    if request.data is not None:
        if request.of_the_stage:
            raise ConfigError("--data needs --config FILE or --out-dir DIR; the DVC stage trains on data/")
        inputs = inputs.on(request.data)
        needed = (inputs.train_file, inputs.val_file, inputs.chunks_file)
        missing = [path.name for path in needed if not path.is_file()]
        if missing:
            raise ConfigError(
                f"--data {request.data} lacks {', '.join(missing)}; "
                f"`mark data-prep --collection pdf_docs --out-dir {request.data}` writes them"
            )
    if request.of_the_stage:
        return inputs
    return replace(inputs, plots=root / "runs/plots")  # plots/train belongs to the DVC stage


def _run_stage(out: Path, root: Path) -> str:
    from mark.train.processes import processes

    if processes() > 1:
        raise ConfigError(
            "several processes cannot each run the DVC stage; give --config FILE or --out-dir DIR, or let "
            f"the stage start them: {LAUNCH}='torchrun --nproc_per_node {processes()}' dvc repro train"
        )
    dvc(["repro", "-s", "train"], root)
    return f"{out} is up to date; `mark eval` measures it"


def _entry_name(base: str, config: Path | None) -> str:
    """The stage's entry, or one named after the config file beside it."""
    return f"{base}_lora" if config is None else f"{base}_lora_{config.stem}"


def _composed(option: str, root: Path) -> Any:
    import yaml

    from mark.commands.params import compose

    return yaml.safe_load(compose([f"train={option}"], root))["train"]


def _laid_over(config: Path, root: Path) -> Any:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        over = OmegaConf.to_container(OmegaConf.load(config), resolve=True)
        if not over:
            raise ConfigError(f"{config} holds no key; see conf/train/ for the keys")
        inner = over.get("train", over) if isinstance(over, dict) else over
        merged = OmegaConf.merge(read_params(root / "params.yaml")["train"], inner)
        return OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError, RecursionError) as fault:
        raise ConfigError(f"{config}: {str(fault).splitlines()[0]}; see conf/train/ for the keys") from None
