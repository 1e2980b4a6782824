"""Training and loading: where a folder of sounds, a family and the loop are wired together."""

import dataclasses
import itertools
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from wavesynth import runs
from wavesynth.audio import files
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_float
from wavesynth.config import Config, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.corpus import scan
from wavesynth.data.info import dataset_info
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import MANIFEST, Shards
from wavesynth.errors import UserError
from wavesynth.evaluation import sample_sets
from wavesynth.families import Family, Judging, bind, family_type, preset, require
from wavesynth.families.base import ONE_SHOT_SECONDS
from wavesynth.previews import write_preview
from wavesynth.synth import Synth
from wavesynth.training import checkpoints, loop
from wavesynth.training.journal import Journal
from wavesynth.training.journal import read as read_journal
from wavesynth.training.objective import Objective
from wavesynth.training.state import Params

PathName = str | PathLike[str]
DEFAULT_PRESET = "wavenet-small"
CALIBRATION_WINDOWS = 64


def train(
    source: PathName,
    run: PathName,
    config: Config | None = None,
    *,
    steps: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Synth:
    """Trains a model on shards, or on a folder of sounds, and returns it ready to use.

    source: what `prepare` wrote, or a folder (it is prepared to RUN/shards at 16 kHz first).
    run: the folder to write; see `wavesynth.training.checkpoints` for what lands in it.
    config: of `preset`, "wavenet-small" by default. steps: in place of the config's own number.
    resume: go on with the run that is there, exactly as if it had never stopped, by its own config unless one is given
    (which may change how it is trained from here on, not the network). force: replace it, once all is ready for that.

    SIGINT and SIGTERM end it after the step under way; the state is saved, and KeyboardInterrupt says how to go on.

    >>> synth = train("sounds/", "runs/mine", preset("wavenet-small"), steps=2_000)
    """
    enable_compile_cache()
    run = Path(run)
    if resume and force:
        raise UserError("resume and force are both given: go on with the run (resume), or replace it (force)")
    if resume:
        config = runs.resumed_config(run, config)
    else:
        config = config or preset(DEFAULT_PRESET)
        runs.check_free(run, force)
    training = config.training if steps is None else dataclasses.replace(config.training, steps=steps)
    shards = _open(Path(source), run, resume, force, progress)
    if resume:
        runs.check_source(run, shards)
    dataset = dataset_info(shards)
    family = bind(config.family, family_type(config.family).adapt(config.model, dataset), dataset)
    learned = family.windows(shards, training)
    held_out = family.held_out(learned)
    fresh = None if resume else _fresh_params(family, learned, training.seed)  # it may find fault with the sounds
    states = None
    try:
        if not resume:
            runs.clear(run)
            runs.write_source(run, shards)
        runs.write(run, family, training)
        states = checkpoints.States(run, training.keep)
        _train(family, training, learned, held_out, states, run, fresh, progress)
    except OSError as error:
        if error.errno not in checkpoints.DISK_FULL:
            raise
        place = error.filename or run
        raise UserError(
            f"the disk of {place} is full; what was saved is whole: make room, and go on by --resume (resume=True)"
        ) from None
    finally:
        if states is not None:
            states.close()
    return load(run)


def load(run: PathName) -> Synth:
    """The synth that a run (or a published folder of config.json and model.safetensors) holds.

    run: the folder, or the name of one that comes with wavesynth, such as "checkpoints/notes". Nothing in it is executed. A
    file that is missing, damaged or of another version is a UserError.

    >>> synth = load("runs/drums")
    """
    enable_compile_cache()
    run = runs.located(Path(run))
    family, _ = runs.read(run)
    shapes = family.published(family.shapes()) | family.memory_shapes()
    return Synth(family, checkpoints.read_weights(run, shapes))


def score_files(synth: Synth, folder: PathName, **how: Any) -> Iterator[tuple[str, int, float]]:
    """Name, samples and bits per sample of every sound in a folder (or of one file); at the end their mean over samples.

    how: see `Synth.log_prob`.
    """
    folder = Path(folder)
    paths = [folder]
    if folder.is_dir():
        corpus = scan(folder)
        paths = [folder / source.file for source in corpus.files]
        for file, reason in corpus.refused:
            warnings.warn(f"{display(str(folder / file))} is left out: {reason}", stacklevel=2)
    taken, total_samples, total_bits = 0, 0, 0.0
    for path in paths:
        try:
            samples = files.read(path, synth.sample_rate)[0]
        except UserError as error:
            if len(paths) == 1:
                raise
            warnings.warn(str(error), stacklevel=2)
            continue
        bits = synth.bits_per_sample(samples, **how)
        taken, total_samples, total_bits = taken + 1, total_samples + len(samples), total_bits + bits * len(samples)
        yield display(str(path)), len(samples), bits
    if not total_samples:
        raise UserError(f"folder is {str(folder)!r}, which holds no sound that can be read: name another")
    if len(paths) > 1:
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
    """Makes `n` sounds, of the labels and pitches that the held-out sounds have, and compares them with those.

    synth: what is to be judged, or its run. shards: what it was trained on; their splits valid and test are held out.
    classifier: a model of the family `classifier` of the same labels and rate, or its run; None leaves out the metrics
    that need one. seconds: length of all sounds, which are cut or padded with silence; None for the model's own or the
    median clip's, 10 seconds at most. No more held-out sounds are compared than are made. seed: of all that is drawn.

    >>> print(evaluate("runs/drums", "shards/", "runs/judge"))
    """
    if n < 2:
        raise UserError(f"n is {n}: a sample_set has at least 2 sounds")
    synth = synth if isinstance(synth, Synth) else load(synth)
    source = Shards.open(shards)
    _check_same("shards", source, synth)
    held_out, learned = [*source.split("valid"), *source.split("test")], source.split("train")
    compared = min(n, len(held_out), len(learned))
    if compared < 2:
        raise UserError(
            f"shards is {str(shards)!r}, with {len(held_out)} clips held out and {len(learned)} to learn, where at least 2 "
            "of each are compared: add sounds, or prepare them again with larger shares for valid and test"
        )
    judge = None
    if classifier is not None:
        classifier = classifier if isinstance(classifier, Synth) else load(classifier)
        _check_same("classifier", classifier, synth)
        judge = sample_sets.Judge(
            partial(require(classifier.family, Judging).features, classifier.params),
            partial(classifier.family.probabilities, classifier.params),
        )
        judge.features(np.zeros((1, 1), np.float32))  # one that cannot hear fails before anything is made
    asked = sample_sets.stratified(source, held_out, n)
    sounds = _sampled(synth, source, asked, seconds, seed, progress)
    length = sounds.shape[1]
    held_out = sample_sets.stratified(source, held_out, compared)
    return sample_sets.compare(
        sample_sets.SampleSet(sounds, sample_sets.labels_of(source, asked)),
        sample_sets.gather(source, held_out, length),
        sample_sets.gather(source, sample_sets.matched_by_label(source, held_out, learned, seed), length),
        ((source.clips[clip].file, to_float(source.samples(clip)[0, :length])) for clip in learned),
        source.sample_rate,
        judge,
        seed=seed,
    )


def config_of(run: PathName) -> Config:
    """The config that a run was begun with."""
    family, training = runs.read(runs.located(Path(run)))
    return Config(family.name, family.model, training)


def describe(run: PathName) -> str:
    """What a run holds, in a few lines."""
    run = runs.located(Path(run))
    family, training = runs.read(run)
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(family.published(family.shapes())))
    dataset = family.dataset
    journal = read_journal(run / "journal.jsonl")
    lines = [
        f"family       {family.name}, {size:,} parameters, {family.context:,} samples of context",
        f"sounds       {dataset.sample_rate:,} Hz, {'with' if dataset.pitched else 'without'} pitches",
        f"labels       {', '.join(dataset.labels) or 'none'}",
        f"model        {family.model}",
        f"training     {training}",
    ]
    if journal:
        last = {name: value for line in journal for name, value in line.items()}
        metrics = ", ".join(
            f"{name} {math.nan if value is None else value:.3f}"
            for name, value in last.items()
            if name not in ("step", "seconds")
        )
        lines.append(f"trained      {last['step']:,} steps in {last['seconds'] / 60:.1f} minutes: {metrics}")
    return "\n".join(lines)


def enable_compile_cache() -> None:
    """Keeps compiled programs between processes, so that a second run starts at once."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "wavesynth" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # a start is some 200 small programs


def _check_same(name: str, theirs: Synth | Shards, synth: Synth) -> None:
    """Raises UserError unless a classifier or shards have the sample rate and the labels of what is judged."""
    remedy = f"name {name} of the sounds that the model was trained on"
    if theirs.sample_rate != synth.sample_rate:
        raise UserError(f"{name} is of {theirs.sample_rate:,} Hz, the model of {synth.sample_rate:,} Hz: {remedy}")
    if theirs.labels != synth.labels:
        have, wanted = (", ".join(labels) or "none" for labels in (theirs.labels, synth.labels))
        raise UserError(f"{name} has other labels ({have}) than the model ({wanted}): {remedy}")


def _sampled(
    synth: Synth, shards: Shards, clips: Sequence[int], seconds: float | None, seed: int, progress: bool
) -> np.ndarray:
    """A sound of the label and pitch of each of these clips, float32 [N, T]; neighbours that share both are made at once."""
    from tqdm import tqdm

    dataset = synth.family.dataset
    if seconds is None:
        seconds = synth.longest if synth.family.length else min(dataset.clip_seconds, ONE_SHOT_SECONDS)
    records = [shards.clips[clip] for clip in clips]
    made = []
    with tqdm(total=len(clips), unit="sound", disable=not progress) as bar:
        for (label, pitch), group in itertools.groupby(records, lambda clip: (clip.label, clip.pitch)):
            count = len(list(group))
            made.append(
                synth.sample(
                    count, seconds, label=label, pitch=pitch if dataset.pitched else None,
                    seed=(seed + len(made)) % 2**32,
                )
            )  # fmt: skip
            bar.update(count)
    return np.concatenate(made)


def _train(
    family: Family, training: TrainingConfig, learned: Batches, held_out: Batches, states: checkpoints.States,
    run: Path, fresh: Params | None, progress: bool,
) -> None:  # fmt: skip
    objective = family.objective(training)
    if states.latest is None:
        state = objective.init(_fresh_params(family, learned, training.seed) if fresh is None else fresh)
        best = math.inf
    else:
        template = jax.eval_shape(objective.init, family.shapes())
        state, meta = states.restore(jax.tree.map(_on_first_device, template))
        best = meta["best"]
    if progress:
        print(_introduction(family, objective, learned, held_out, training), flush=True)
    journal = Journal(run, first_step=int(state.step))
    try:
        loop.train(
            objective, state, training, batches=learned, held_out=held_out, states=states, journal=journal, best=best,
            publish=lambda params, step, value: checkpoints.publish(
                run, params | family.memory(params, learned), {"step": step, objective.metric: value}
            ),
            preview=lambda params, step: write_preview(
                Synth(family, jax.device_get(params)), held_out, run / "previews" / f"{step:07d}", training
            ),
            progress=progress,
        )  # fmt: skip
    finally:
        journal.close()


def _fresh_params(family: Family, learned: Batches, seed: int) -> Params:
    calibration = dataclasses.replace(learned, batch_size=CALIBRATION_WINDOWS, host=0, hosts=1)
    return family.init(jax.random.key(seed), calibration.batch(0))


def _on_first_device(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def _introduction(
    family: Family, objective: Objective, learned: Batches, held_out: Batches, training: TrainingConfig
) -> str:
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in family.baselines(learned, held_out).items())
    return (
        f"{family.name}: {learned.shards.seconds / 60:.1f} minutes of sound, {len(learned.clips)} clips to learn and "
        f"{len(held_out.clips)} held out, {training.steps} steps.\n{objective.meaning}: {metrics}; "
        f"{objective.aim}."
    )


def _open(source: Path, run: Path, resume: bool, force: bool, progress: bool) -> Shards:
    """The shards that `source` is, or those that are made of it in the run's folder; every byte of them checked."""
    if (source / MANIFEST).exists():
        return Shards.open(source, verify=True)
    shards = run / "shards"
    try:
        report = prepare(source, shards, force=force, progress=progress)
    except UserError as error:
        if resume and (shards / MANIFEST).exists():
            raise UserError(f"{error}; to go on with the sounds as they were, name {shards} as the source") from None
        raise
    if progress:
        print(report, flush=True)
    return Shards.open(shards, verify=True)
