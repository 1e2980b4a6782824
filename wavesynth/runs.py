"""A run's folder: its files, its lock, and how a new run replaces an old one.

```
RUN/
  config.json          family, network and training settings, and facts about the dataset
  source.json          the shards that the run trains on, and the model that it began from
  states/STEP/         the latest training states, for `resume`
  model.safetensors    the moving average of the weights at the best validation so far, for `load`
  journal.jsonl        metrics
  previews/, tensorboard/, shards/ (if the run was started from a folder of sounds)
  .lock                the process that is training the run
  .new/                a new run that will replace this one once it has published its first weights
```
A published model is a folder with only config.json and model.safetensors.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import jax

from wavesynth import strict_json
from wavesynth.audio.names import user_path
from wavesynth.config import FORMAT, VERSION, Config, DatasetInfo, TrainingConfig, from_dict, to_json
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.families import Family, family_type
from wavesynth.storage import sync, write_file
from wavesynth.training import checkpoints
from wavesynth.training.lock import locked
from wavesynth.training.state import Params

PUBLISHED = Path(__file__).parent / "checkpoints"
NEW, CONFIG = ".new", "config.json"
_SWAP, _OLD, _LOCK = ".swap.json", ".old", ".lock"
_FILES = (CONFIG, "source.json", checkpoints.WEIGHTS, "journal.jsonl")
_FOLDERS = ("states", "previews", "tensorboard", "shards")
_LEFTOVERS = ("shards.partial", "shards.report.json", *(f"{name}.tmp" for name in _FILES), _LOCK, _OLD, NEW)


class Run:
    """The folder of a run.

    Args:
        folder: its path, or the name of a bundled model, "checkpoints/NAME".

    Attributes:
        folder: the folder of the run's files.
        home: the final folder: if the run will replace another one, that one's folder.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = _located(user_path(folder))
        self.home = self.folder.parent if self.folder.name == NEW else self.folder

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def config(self) -> Path:
        return self._file(CONFIG)

    @property
    def source(self) -> Path:
        return self._file("source.json")

    @property
    def weights(self) -> Path:
        return self._file(checkpoints.WEIGHTS)

    @property
    def journal(self) -> Path:
        return self._file("journal.jsonl")

    @property
    def states(self) -> Path:
        return self._file("states")

    @property
    def previews(self) -> Path:
        return self._file("previews")

    @property
    def board(self) -> Path:
        """The folder for TensorBoard."""
        return self._file("tensorboard")

    @property
    def shards(self) -> Path:
        """The shards of a run that was started from a folder of sounds."""
        return self._file("shards")

    @property
    def trial(self) -> Path:
        """The trial preview, written before training and removed."""
        return self.folder / ".trial"

    @property
    def replaces(self) -> bool:
        """Whether this run will replace another one."""
        return self.folder != self.home

    def _file(self, name: str) -> Path:
        """One of the run's files. If a replacement was interrupted, it may still be in the new run's folder."""
        moved = (self.folder / _SWAP).exists() and (self.folder / NEW / name).exists()
        return (self.folder / NEW if moved else self.folder) / name

    # Locking and checks before writing.

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the run against other processes, and completes a replacement that a killed process left unfinished.

        Raises:
            UserError: another process is training the run; the message names it.
        """
        made = [folder for folder in (self.home, *self.home.parents) if not folder.exists()]
        self.home.mkdir(parents=True, exist_ok=True)
        try:
            first = jax.process_index() == 0  # among the hosts of a distributed run
            with locked(self.home / _LOCK, f"training {self.home}") if first else nullcontext():
                if (self.home / _SWAP).exists():
                    Run(self.home)._swap()
                yield
        finally:
            for folder in made:  # remove new folders that are still empty
                with suppress(OSError):
                    folder.rmdir()

    def check_new(self, force: bool) -> None:
        """Raises UserError unless a new run may be written here: the folder is new, or holds a run and `force` is set."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"run is {str(self)!r}, which is a file: give a folder")
        if self.home.resolve().is_relative_to(PUBLISHED.resolve()):
            raise UserError(f"run is {str(self)!r}, a bundled model: choose a new folder")
        if self.config.exists():
            if force:
                return
            if not self.source.exists() and not self.states.exists():
                raise UserError(f"run is {str(self)!r}, which holds a published model: choose a new folder")
            raise UserError(f"run is {str(self)!r}, which holds a run: --resume continues it, --force replaces it")
        others = {CONFIG, checkpoints.WEIGHTS, "journal.jsonl", "states", "previews", "tensorboard"}
        ours = {*_FILES, *_FOLDERS, *_LEFTOVERS} - others
        if self.folder.exists() and any(child.name not in ours for child in self.folder.iterdir()):
            raise UserError(f"run is {str(self)!r}, a folder with other files in it: choose a new folder")

    def check_resumable(self) -> None:
        """Raises UserError unless there is a run to resume."""
        if not self.config.exists():
            raise UserError(f"run is {str(self)!r}, which holds no run to resume: leave --resume out to start one")
        if not self.source.exists() and not self.states.exists():
            raise UserError(
                f"run is {str(self)!r}, a published model, which has no training state to resume: choose a new folder and "
                "leave --resume out"
            )

    # Reading.

    def read(self) -> tuple[Any, TrainingConfig]:
        """The run's family, bound to its network and dataset, and its training settings.

        Raises:
            UserError: config.json is missing or invalid.
        """
        path = self.config
        if not path.exists():
            raise UserError(
                f"run is {str(self)!r}, which holds no {path.name}: give a run folder, or a bundled model "
                f"({', '.join(published())})"
            )
        content = strict_json.read(path, "restore it, or train again")
        if content.get("format") != FORMAT:
            raise UserError(
                f"{path} has format {content.get('format')!r}, written by another version of wavesynth; version {VERSION} "
                f"reads format {FORMAT}: use the version that wrote it, or train again"
            )
        try:
            kind = family_type(str(content.get("family")))
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        model = from_dict(kind.model_config, content.get("model"), f"{path}: model")
        training = from_dict(kind.training_config, content.get("training"), f"{path}: training")
        dataset = from_dict(DatasetInfo, content.get("dataset"), f"{path}: dataset")
        try:
            adapted = kind.adapt(model, dataset)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if adapted != model:
            raise UserError(f"{path}: model does not match dataset: the file was changed; restore it")
        return kind(model, dataset), training

    def read_base(self) -> dict[str, str] | None:
        """Name and hash of the model that training began from, in config.json; None if there was none."""
        base = strict_json.read(self.config, "restore it, or train again").get("base")
        if base is not None and not (isinstance(base, dict) and {type(value) for value in base.values()} == {str}):
            raise UserError(f"{self.config} cannot be read (base is not a name and a hash): restore it, or train again")
        return base

    def read_weights(self, expected: Params) -> Params:
        """The published weights; see `wavesynth.training.checkpoints.read_weights`."""
        return checkpoints.read_weights(self.weights.parent, expected)

    def resumed(self, config: Config | None) -> Config:
        """The config to resume with: the run's own, or `config` if it has the same family and network.

        Raises:
            UserError: there is nothing to resume, or `config` describes another model.
        """
        self.check_resumable()
        family, training = self.read()
        if config is None:
            return Config(family.name, family.model, training)
        own = family.name, family.model
        if (config.family, family_type(config.family).adapt(config.model, family.dataset)) != own:
            raise UserError(
                f"config does not match the one that {self} was started with: leave it out to resume, or choose a new run"
            )
        if config.training.optimizer != training.optimizer:
            raise UserError(
                f"optimizer is {config.training.optimizer!r}, but {self} was started with {training.optimizer!r}, whose state "
                "it cannot use: leave it out to resume, or choose a new run"
            )
        return config

    def read_source(self) -> dict[str, str]:
        """The path ("shards") and the fingerprint of the shards that the run was started with."""
        remedy = "restore it, or choose a new run"
        before = strict_json.read(self.source, remedy)
        if missing := [name for name in ("shards", "fingerprint") if not isinstance(before.get(name), str)]:
            raise UserError(f"{self.source} cannot be read (it lacks the text {missing[0]!r}): {remedy}")
        return before

    def check_source(self, shards: Shards) -> None:
        """Raises UserError unless the run was started with the same sounds."""
        before = self.read_source()
        if before["fingerprint"] != shards.fingerprint:
            raise UserError(
                f"source differs from the sounds that {self} was started with ({before['shards']}): resume with those"
            )

    # Writing.

    def write_config(self, family: Family, training: TrainingConfig, base: dict[str, str] | None = None) -> None:
        """Writes config.json, from which `read` restores the family.

        base: name and hash of the model that training begins from; None to keep what the file says.
        """
        head: dict[str, Any] = {"format": FORMAT, "wavesynth": VERSION, "family": family.name}
        if base := base or (self.read_base() if self.config.exists() else None):
            head["base"] = base
        parts = {"model": family.model, "training": training, "dataset": family.dataset}
        text = to_json(head | parts)
        write_file(self.config, text.encode())

    def write_source(self, shards: Shards, base: str | None = None) -> None:
        """Records the shards that the run trains on, and what opens the model that it begins from.

        Shards in its own folder are recorded by their final path.
        """
        path = Path(shards.path).absolute()
        if path == self.shards.absolute():
            path = (self.home / self.shards.name).absolute()
        record = {"shards": str(path), "fingerprint": shards.fingerprint} | ({"base": base} if base else {})
        write_file(self.source, json.dumps(record).encode())

    def publish(self, params: Params, meta: dict[str, Any]) -> None:
        """Writes the weights and their metadata."""
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoints.publish(self.folder, params, meta)

    # Replacing.

    def replacement(self) -> "Run":
        """A new run that will replace this one. Files of an earlier attempt are removed, except its shards."""
        new = Run(self.home / NEW)
        for name in (*_FILES, *_FOLDERS):
            if (new.folder / name).is_dir() and name != "shards":
                shutil.rmtree(new.folder / name)
            elif (new.folder / name).is_file():
                (new.folder / name).unlink()
        return new

    def take_place(self) -> Path:
        """Replaces the old run by this one, whose weights are published.

        Every file is moved by a rename within one file system. Until all are moved, a marker file is in the folder: readers
        take it into account, and the next process completes the replacement if this one is killed.

        Returns:
            The new folder of the run's states.
        """
        names = [name for name in (*_FILES, *_FOLDERS) if (self.folder / name).exists()]
        write_file(self.home / _SWAP, json.dumps(names).encode())
        self.folder = self.home
        self._swap()
        return self.states

    def _swap(self) -> None:
        new, old, note = self.home / NEW, self.home / _OLD, self.home / _SWAP
        names = json.loads(note.read_text())
        old.mkdir(exist_ok=True)
        for name in (*_FILES, *_FOLDERS):
            obsolete = (new / name).exists() or (name not in names and name != "shards")
            if obsolete and (self.home / name).exists():
                shutil.rmtree(old / name, ignore_errors=True)
                (self.home / name).replace(old / name)
            if (new / name).exists():
                (new / name).replace(self.home / name)
        sync(self.home)
        note.unlink()
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(new, ignore_errors=True)


def published() -> list[str]:
    """The names of the bundled models, each "checkpoints/NAME"."""
    return sorted(f"{PUBLISHED.name}/{path.parent.name}" for path in PUBLISHED.glob(f"*/{CONFIG}"))


def _located(folder: Path) -> Path:
    """The folder itself; or a bundled model, if it names one and the user has no run of that name."""
    ours = PUBLISHED.joinpath(*folder.parts[1:])
    named = folder.parts[:1] == (PUBLISHED.name,) and len(folder.parts) == 2 and (ours / CONFIG).exists()
    return ours if named and not (folder / CONFIG).exists() else folder
