"""The folder of a run, apart from its weights and states: which family it is, how it is trained, on what, and whose it is.

See `wavesynth.training.checkpoints` for the rest of it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from wavesynth import strict_json
from wavesynth.config import FORMAT, VERSION, Config, DatasetInfo, TrainingConfig, from_dict, to_json
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families import Family, family_type
from wavesynth.training import checkpoints

CONFIG, SOURCE = "config.json", "source.json"
PUBLISHED = Path(__file__).parent / "checkpoints"
_BEGINNING = ("shards", "shards.partial", "shards.report.json", "source.json", "source.json.tmp", "config.json.tmp")


def check_free(run: Path, force: bool) -> None:
    """Raises UserError unless the run's folder is new, holds what a beginning left, or a run that is to be replaced."""
    if run.exists() and not run.is_dir():
        raise UserError(f"run is {str(run)!r}, which is a file: name a folder to write")
    if (run / CONFIG).exists():
        if not force:
            raise UserError(f"run is {str(run)!r}, which holds a run: --resume goes on with it, --force replaces it")
    elif run.exists() and any(child.name not in _BEGINNING for child in run.iterdir()):
        raise UserError(f"run is {str(run)!r}, a folder that holds other things: name a new one")


def clear(run: Path) -> None:
    """Makes the run's folder, without what an earlier run wrote there; config.json, which marks a run, goes last."""
    run.mkdir(parents=True, exist_ok=True)
    for name in ("states", "previews", "tensorboard"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in (checkpoints.WEIGHTS, "journal.jsonl", SOURCE, CONFIG):
        (run / name).unlink(missing_ok=True)


def write(run: Path, family: Family, training: TrainingConfig) -> None:
    """Writes config.json, from which `read` makes the same family again."""
    head: dict[str, Any] = {"format": FORMAT, "wavesynth": VERSION, "family": family.name}
    parts = {"model": family.model, "training": training, "dataset": family.dataset}
    text = json.dumps(head | {name: json.loads(to_json(part)) for name, part in parts.items()}, indent=2) + "\n"
    checkpoints.replace(run / CONFIG, text.encode())


def located(run: Path) -> Path:
    """The folder of a run; of a published one, "checkpoints/NAME", the one that comes with wavesynth."""
    ours = PUBLISHED.joinpath(*run.parts[1:])
    known = run.parts[:1] == (PUBLISHED.name,) and (ours / CONFIG).exists()
    return ours if known and not (run / CONFIG).exists() else run


def published() -> list[str]:
    """The runs that come with wavesynth, "checkpoints/NAME" each."""
    return sorted(f"{PUBLISHED.name}/{path.parent.name}" for path in PUBLISHED.glob(f"*/{CONFIG}"))


def read(run: Path) -> tuple[Any, TrainingConfig]:
    """The family that a run is of, and how it is trained; a UserError says what is wrong with config.json."""
    path = run / CONFIG
    if not path.exists():
        raise UserError(
            f"run is {str(run)!r}, which holds no {CONFIG}: name the folder that training wrote, or one that comes with "
            f"wavesynth ({', '.join(published())})"
        )
    content = strict_json.read(path, "restore it, or train anew")
    if content.get("format") != FORMAT:
        raise UserError(f"{path} is not of format {FORMAT}, the one that wavesynth {VERSION} reads")
    try:
        kind = family_type(str(content.get("family")))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    model = from_dict(kind.model_config, content.get("model"), f"{path}: model")
    training = from_dict(kind.training_config, content.get("training"), f"{path}: training")
    dataset = from_dict(DatasetInfo, content.get("dataset"), f"{path}: dataset")
    if kind.adapt(model, dataset) != model:
        raise UserError(f"{path}: model does not fit dataset (its labels and pitches): it was changed; restore it")
    return kind(model, dataset), training


def resumed_config(run: Path, config: Config | None) -> Config:
    """The config to go on with: the run's own, trained from here on as `config` says if there is one."""
    if not (run / CONFIG).exists():
        raise UserError(f"run is {str(run)!r}, which holds no run to resume: leave --resume out to start one")
    family, training = read(run)
    if config is None:
        return Config(family.name, family.model, training)
    if (config.family, family_type(config.family).adapt(config.model, family.dataset)) != (family.name, family.model):
        raise UserError(f"config is not the one that {run} was begun with: leave it out to resume, or name a new run")
    if config.training.optimizer != training.optimizer:
        raise UserError(
            f"optimizer is {config.training.optimizer!r}, {run} was begun with {training.optimizer!r}, whose state does "
            "not fit it: leave it out to resume, or name a new run"
        )
    return config


def write_source(run: Path, shards: Shards) -> None:
    """Notes what the run is trained on."""
    origin = {"shards": str(Path(shards.path).absolute()), "fingerprint": shards.fingerprint}
    checkpoints.replace(run / SOURCE, json.dumps(origin).encode())


def check_source(run: Path, shards: Shards) -> None:
    """Raises UserError unless the run was begun with these very sounds."""
    try:
        before = json.loads((run / SOURCE).read_text())
        begun_with, place = before["fingerprint"], before["shards"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{run / SOURCE} cannot be read ({error}): restore it, or replace the run by --force") from None
    if begun_with != shards.fingerprint:
        raise UserError(f"source holds other sounds than {run} was begun with ({place}): resume with those")
