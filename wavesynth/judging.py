"""Model evaluation: bits per sample of sound files, and comparison of generated with held-out sounds."""

import itertools
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wavesynth.api import PathName, load
from wavesynth.audio import files
from wavesynth.audio.names import display, user_path
from wavesynth.audio.pcm import to_float
from wavesynth.config import ONE_SHOT_SECONDS
from wavesynth.data.batches import mono
from wavesynth.data.corpus import SourceFile, scan
from wavesynth.data.pitches import pitch_of
from wavesynth.data.shards import Shards
from wavesynth.errors import UserError
from wavesynth.evaluation import sample_sets
from wavesynth.families import Judging, require
from wavesynth.progress import Progress
from wavesynth.synth import Synth


def score_files(synth: Synth, folder: PathName, **options: Any) -> Iterator[tuple[str, int, float]]:
    """Scores every sound in a folder, or one file, in bits per sample. Lower is better.

    Each file is conditioned on its own label and pitch, if the model supports them. As in training, they come from the
    folder, the file name or metadata.csv.

    Args:
        synth: a model trained by maximum likelihood.
        folder: a folder of sounds, or one file.
        options: options of `Synth.log_prob`. A `label` or `pitch` given here applies to all files.

    Yields:
        (name, number of samples, bits per sample) of each file. With several files, the last item is the mean over samples.
        Unreadable files are skipped with a warning.

    Raises:
        UserError: no sound can be read, or the model has no likelihood.

    >>> for name, num_samples, bits in score_files(ws.load("runs/mine"), "sounds"):       # doctest: +SKIP
    ...     print(f"{bits:.2f} bits per sample  {name}")
    """
    folder = user_path(folder)
    sources = _sources(folder)
    taken, total_samples, total_bits = 0, 0, 0.0
    for path, label, pitch in sources:
        own: dict[str, Any] = {}
        if label in synth.labels and synth.family.label_conditioned:
            own["label"] = label
        if synth.family.dataset.pitched and pitch is not None:
            own["pitch"] = pitch
        try:
            samples = files.read(path, synth.sample_rate)[0]
        except UserError as error:
            if len(sources) == 1:
                raise
            warnings.warn(str(error), stacklevel=2)
            continue
        given = {name: value for name, value in options.items() if value is not None}
        bits = synth.bits_per_sample(samples, **own | given)
        taken, total_samples, total_bits = taken + 1, total_samples + len(samples), total_bits + bits * len(samples)
        yield display(str(path)), len(samples), bits
    if not total_samples:
        raise UserError(f"folder is {str(folder)!r}, which holds no sound that can be read: name another")
    if len(sources) > 1:
        yield f"mean of {taken} sounds", total_samples, total_bits / total_samples


def evaluate(
    synth: Synth | PathName,
    shards: PathName,
    classifier: Synth | PathName | None = None,
    *,
    n: int = 500,
    seconds: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> sample_sets.SampleSetMetrics:
    """Generates `n` sounds with the labels and pitches of held-out sounds, and compares the two sets.

    Args:
        synth: the model to evaluate, or its run.
        shards: the shards it was trained on. The splits "valid" and "test" are held out.
        classifier: a model of the family `classifier` with the same labels and sample rate, or its run. None omits the
            metrics that need one.
        n: number of sounds to generate, and the largest number of held-out sounds to compare them with.
        seconds: length to which all sounds are cut or padded with silence; None for the model's own length, or the median
            clip length up to 10 seconds.
        seed: random seed.
        progress: show progress on stderr.

    Returns:
        The metrics, each with the same metric of real sounds and, for distances, of silence. Prints as a table. Stereo sounds
        are mixed.

    Raises:
        UserError: `n` is below 2; there are fewer than 2 held-out sounds; or the shards or the classifier do not fit the
            model.

    >>> metrics = ws.evaluate("runs/mine", "shards", n=2, seconds=0.1, progress=False)      # doctest: +SKIP
    """
    if n < 2:
        raise UserError(f"n is {n}: a sample set has at least 2 sounds")
    synth = synth if isinstance(synth, Synth) else load(synth)
    source = Shards.open(shards)
    _check_same("shards", source, synth)
    held_out, learned = [*source.split("valid"), *source.split("test")], source.split("train")
    compared = min(n, len(held_out), len(learned))
    if compared < 2:
        raise UserError(
            f"shards is {str(shards)!r}, with {len(held_out)} held-out and {len(learned)} training clips, but at least 2 of "
            "each are needed: add sounds, or prepare them again with larger shares for valid and test"
        )
    judge = None
    if classifier is not None:
        classifier = classifier if isinstance(classifier, Synth) else load(classifier)
        _check_same("classifier", classifier, synth)
        family, weights = require(classifier.family, Judging), jax.device_put(classifier.params)
        judge = sample_sets.Judge(partial(family.features, weights), partial(family.probabilities, weights))
        judge.features(np.zeros((1, 1), np.float32))  # fails for other families, before anything is generated
    wanted = sample_sets.stratified(source, held_out, n)
    sounds = _sampled(synth, source, wanted, seconds, seed, progress)
    length = sounds.shape[-1]
    held_out = sample_sets.stratified(source, held_out, compared)
    return sample_sets.compare(
        sample_sets.SampleSet(sounds, sample_sets.labels_of(source, wanted)),
        sample_sets.gather(source, held_out, length),
        sample_sets.gather(source, sample_sets.matched_by_label(source, held_out, learned, seed), length),
        ((source.clips[clip].file, mono(to_float(source.samples(clip)[:, :length]))) for clip in learned),
        source.sample_rate,
        judge,
        level_db=synth.family.dataset.level_db,
        seed=seed,
    )


def _sources(folder: Path) -> list[tuple[Path, str | None, float | None]]:
    """The sound files in a folder, or one file, with their labels and pitches."""
    if not folder.is_dir():
        return [(folder, folder.absolute().parent.name, pitch_of(folder.name))]
    corpus = scan(folder)
    for file, reason in corpus.refused:
        warnings.warn(f"{display(str(folder / file))} is skipped: {reason}", stacklevel=3)

    def described(source: SourceFile) -> tuple[Path, str | None, float | None]:
        # The folder itself may be named after the label of the files in it.
        return folder / source.file, source.label or folder.absolute().name, source.pitch

    return [described(source) for source in corpus.files]


def _check_same(name: str, other: Synth | Shards, synth: Synth) -> None:
    """Raises UserError unless a classifier or shards have the model's sample rate and labels."""
    remedy = f"give the {name} for the sounds that the model was trained on"
    if other.sample_rate != synth.sample_rate:
        raise UserError(f"{name} has {other.sample_rate:,} Hz, the model {synth.sample_rate:,} Hz: {remedy}")
    if other.labels != synth.labels:
        found, wanted = (", ".join(labels) or "none" for labels in (other.labels, synth.labels))
        raise UserError(f"{name} has other labels ({found}) than the model ({wanted}): {remedy}")


def _sampled(
    synth: Synth, shards: Shards, clips: Sequence[int], seconds: float | None, seed: int, progress: bool
) -> np.ndarray:
    """One sound with the label and pitch of each clip, mixed to one channel, float32 [N, T].

    Adjacent clips that share both form one batch.
    """
    family, dataset = synth.family, synth.family.dataset
    if seconds is None:
        seconds = synth.longest if family.length else min(dataset.clip_seconds, ONE_SHOT_SECONDS)
    records = [shards.clips[clip] for clip in clips]
    parts: list[np.ndarray] = []
    with Progress(len(clips), "sound", "evaluate", shown=progress) as bar:
        for (label, pitch), group in itertools.groupby(records, lambda clip: (clip.label, clip.pitch)):
            count = len(list(group))
            sounds = synth.sample(
                count, seconds, label=label if family.samples_by_label else None,
                pitch=pitch if dataset.pitched else None, seed=(seed + len(parts)) % 2**32,
            )  # fmt: skip
            parts.append(mono(sounds) if synth.channels > 1 else sounds)
            bar.update(count)
    return np.concatenate(parts)
