"""The model that training begins from: its config, its sounds and its weights, fitted to new sounds."""

import hashlib
from dataclasses import replace
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np

from wavesynth.config import Config, DatasetInfo
from wavesynth.errors import UserError
from wavesynth.families import Family
from wavesynth.runs import PUBLISHED, Run
from wavesynth.training.checkpoints import flatten, unflatten
from wavesynth.training.state import Params


class Base:
    """A model that training begins from.

    Args:
        folder: a run, or the name of a bundled model.

    Attributes:
        name: the folder's name, or "checkpoints/NAME" of a bundled model.
        place: what opens it again: the folder's absolute path, or the name of a bundled model.
        sha256: of the file of its weights.

    Raises:
        UserError: there is no model.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.run = Run(folder)
        self.family, self._training = self.run.read()
        path = self.run.folder.absolute()
        bundled = f"{PUBLISHED.name}/{path.name}" if path.resolve().parent == PUBLISHED.resolve() else None
        self.name, self.place = bundled or path.name, bundled or str(path)
        memory = self.family.memory_shapes()
        weights = self.run.read_weights(self.family.published(self.family.shapes()) | memory)
        self._params = {name: part for name, part in weights.items() if name not in memory}
        self.sha256 = hashlib.sha256(self.run.weights.read_bytes()).hexdigest()

    @property
    def record(self) -> dict[str, str]:
        """What config.json says about it."""
        return {"name": self.name, "sha256": self.sha256}

    def config(self, preset: Config | None = None) -> Config:
        """The config to begin with: the base's network, and training settings as `TrainingConfig.from_base` changes them.

        preset: gives the training settings; None for those of the base.

        Raises:
            UserError: the preset is of another family.
        """
        return Config(self.family.name, self.family.model, self.shaped(preset).training.from_base())

    def shaped(self, config: Config | None) -> Config:
        """A config, or that of the base, with the network of the base.

        Raises:
            UserError: the config is of another family.
        """
        if config and config.family != self.family.name:
            raise UserError(
                f"base is {self.name!r}, of the family {self.family.name!r}, and the config is of the family "
                f"{config.family!r}: leave out the preset (--preset, config), or choose another base"
            )
        return Config(self.family.name, self.family.model, config.training if config else self._training)

    def dataset(self, dataset: DatasetInfo) -> DatasetInfo:
        """Facts about new sounds, with those of the base that shape its network: channels, partials, whether it takes a pitch.

        Raises:
            UserError: the new sounds have another sample rate.
        """
        own = self.family.dataset
        if dataset.sample_rate != own.sample_rate:
            raise UserError(
                f"base is {self.name!r}, of {own.sample_rate} Hz, and the sounds have {dataset.sample_rate} Hz: prepare them "
                f"with --sample-rate {own.sample_rate} (sample_rate={own.sample_rate})"
            )
        dataset = replace(dataset, channels=own.channels, partials=own.partials)
        if own.pitched:
            return replace(dataset, pitched=True, pitches=dataset.pitches or own.pitches)
        pairs = tuple((label, -1.0) for label, _ in dataset.typical)
        return replace(dataset, pitched=False, pitches=(), typical=pairs if dataset.labels else ())

    def fitted(self, fresh: Params, family: Family) -> tuple[Params, str]:
        """New parameters, replaced by those of the base where path and shape match, and a sentence that says so.

        Arrays with an entry for each label keep the entries of labels that the base knows.

        Args:
            fresh: initial values.
            family: bound to the new sounds.
        """
        before, after = self.family.dataset.labels, family.dataset.labels
        own, parts = flatten(self._params), family.label_parts()
        fitted: dict[str, Any] = flatten(fresh, asarray=False)
        left = []
        for name, value in own.items():
            if name in parts and name in fitted:
                value = _relabelled(value, np.asarray(fitted[name]), *parts[name], before, after)
            if name in fitted and value.shape == fitted[name].shape:
                fitted[name] = jnp.asarray(value, fitted[name].dtype)
            else:
                left.append(name)
        labels = ", ".join(name for name in after if name not in before)
        sentence = f"training begins from {self.name}: {len(own) - len(left)} of its {len(own)} arrays fit"
        sentence += f", not {', '.join(left)}" * bool(left)
        return unflatten(fitted), sentence + f"; new labels: {labels}" * bool(labels)


def recorded(run: Run) -> Base | None:
    """The base that a run was started from; None if it was started from none.

    Raises:
        UserError: the base is lost or was changed.
    """
    record = run.read_base()
    if record is None:
        return None
    remedy = "restore it, or start over with --force"
    try:
        base = Base(str(run.read_source().get("base", "")))
    except UserError as error:
        raise UserError(f"{run} was started from the base {record.get('name')!r}: {error}; {remedy}") from None
    if base.record != record:
        raise UserError(f"{run} was started from the base {record.get('name')!r}, whose weights have changed: {remedy}")
    return base


def _relabelled(
    own: np.ndarray, fresh: np.ndarray, axis: int, offset: int, before: tuple[str, ...], after: tuple[str, ...]
) -> np.ndarray:
    """An array whose axis has an entry for each label from `offset` on, for other labels. New labels take fresh entries."""
    first, entries, last = np.split(own, [offset, offset + len(before)], axis=axis)
    new = np.split(fresh, [offset, offset + len(after)], axis=axis)[1]
    chosen = [
        np.take(entries, [before.index(label)], axis) if label in before else np.take(new, [index], axis)
        for index, label in enumerate(after)
    ]
    return np.concatenate([first, *chosen, last], axis=axis)
