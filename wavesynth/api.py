"""Training and loading: how a folder of sounds, a family and the training loop become a model."""

import dataclasses
import math
import shutil
from functools import partial
from os import PathLike
from pathlib import Path

import jax

from wavesynth.audio.names import user_path
from wavesynth.config import Config, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.info import dataset_info
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import MANIFEST, Shards
from wavesynth.errors import UserError
from wavesynth.families import Family, abilities, bind, family_type, preset
from wavesynth.previews import write_preview
from wavesynth.runs import Run
from wavesynth.sampling.devices import check_precision, check_process
from wavesynth.storage import DISK_FULL
from wavesynth.synth import Synth
from wavesynth.training import checkpoints, journal, loop
from wavesynth.training.objective import Objective
from wavesynth.training.state import Params, TrainState

PathName = str | PathLike[str]
DEFAULT_PRESET = "wavenet-small"
CALIBRATION_WINDOWS = 64
TRIAL_SECONDS = 0.02  # of sound in the preview that is tried at the start


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
    """Trains a model on a folder of sounds and returns it, ready to use.

    RUN then holds the weights with the best validation (`load` reads them), the latest training states, metrics in
    `journal.jsonl` and previews to listen to. `wavesynth.runs` lists all files. What could fail late is tried before the
    first step: every phase of the training, validation, a preview, and room on the disk.

    SIGINT and SIGTERM end the training after the current step. The state is saved, and KeyboardInterrupt says how to go on.

    Args:
        source: shards that `prepare` wrote, or a folder of sounds, which is prepared into RUN/shards at 16 kHz first.
        run: the folder to write.
        config: which model, and how it is trained; None for `preset("wavenet-small")`, or for the run's own with `resume`.
        steps: replaces the number of steps in the config.
        resume: continues the run as if it had never stopped. A `config` may change how it is trained from here on, but not
            the network. More `steps` extend a finished run: its learning rate rises again, to a quarter of its peak at
            most, and weights are published only when validation improves.
        force: replaces the run. The new run is trained in RUN/.new, and takes the old one's place when it has published
            its first weights.
        progress: prints what is trained, and progress on stderr.

    Returns:
        The model with the best validation.

    Raises:
        UserError: an argument or the sounds do not fit, another process trains the run, a file is damaged, the disk is
            full, or the loss is not finite. What was saved before stays readable.

    >>> config = ws.preset("wavenet-tiny")
    >>> synth = ws.train("shards", "runs/new", config, steps=2, progress=False)       # doctest: +SKIP
    """
    check_process()
    check_precision()
    if resume and force:
        raise UserError("resume and force are both given: go on with the run (resume), or replace it (force)")
    place = Run(run)
    if resume:
        config = place.resumed(config)
    else:
        config = config or preset(DEFAULT_PRESET)
        place.check_new(force)
    loop.check_devices(config.training.batch_size)
    if steps is not None:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))
    with place.locked():
        if force and place.config.exists():
            place = place.replacement()
        try:
            _train(user_path(source), place, config, resume, force, progress)
        except UserError as error:
            if place.replaces and place.config.exists():
                raise UserError(f"{error} ({place.home} is untouched, and {place} is the new run)") from None
            raise
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            where = error.filename or place
            raise UserError(
                f"the disk of {where} is full; what was saved is whole: make room, and {_remedy(place)}"
            ) from None
    return load(place.home)


def load(run: PathName) -> Synth:
    """Loads a trained model. Nothing in its folder is executed, and no setting of the process is changed.

    Args:
        run: a folder that training wrote, or the name of a model that comes with wavesynth, such as "checkpoints/notes".

    Returns:
        The model, ready to use.

    Raises:
        UserError: a file is missing, damaged, of another version, or does not fit the others.

    >>> synth = ws.load("runs/mine")
    >>> synth.sample_rate
    16000
    """
    check_precision()
    place = Run(run)
    family, _ = place.read()
    return Synth(family, place.read_weights(family.published(family.shapes()) | family.memory_shapes()))


def config_of(run: PathName) -> Config:
    """The config of a run: its family, its network and how it is trained.

    Args:
        run: a run folder, or the name of a model that comes with wavesynth.

    Raises:
        UserError: there is no run, or its config.json is damaged.

    >>> config_of("checkpoints/notes").family
    'autoencoder'
    """
    family, training = Run(run).read()
    return Config(family.name, family.model, training)


def describe(run: PathName) -> str:
    """What a model is, what it can do, what it was trained on and how far, in a few lines.

    Args:
        run: a run folder, or the name of a model that comes with wavesynth.

    Raises:
        UserError: there is no run, or its config.json is damaged.

    >>> print(describe("checkpoints/notes"))            # doctest: +ELLIPSIS
    family       autoencoder, ... parameters, ...
    """
    place = Run(run)
    family, training = place.read()
    size = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(family.published(family.shapes())))
    dataset = family.dataset
    lines = [
        f"family       {family.name}, {size:,} parameters, {family.context:,} samples of context",
        f"it can       {', '.join(abilities(family))}",
        f"sounds       {dataset.sample_rate:,} Hz, {'with' if dataset.pitched else 'without'} pitches",
        f"labels       {', '.join(dataset.labels) or 'none'}",
        f"model        {family.model}",
        f"training     {training}",
    ]
    if records := journal.read(place.journal):
        last = {name: value for record in records for name, value in record.items()}
        metrics = ", ".join(
            f"{name} {math.nan if value is None else value:.3f}"
            for name, value in last.items()
            if name not in ("step", "seconds")
        )
        lines.append(f"trained      {last['step']:,} steps in {last['seconds'] / 60:.1f} minutes: {metrics}")
    return "\n".join(lines)


def _train(source: Path, run: Run, config: Config, resume: bool, force: bool, progress: bool) -> None:
    """Trains in the folder of a run that is locked."""
    training, shards = config.training, _open(source, run, resume, force, progress)
    if resume:
        run.check_source(shards)
    dataset = dataset_info(shards)
    family = bind(config.family, family_type(config.family).adapt(config.model, dataset), dataset)
    learned = family.windows(shards, training)
    held_out = family.held_out(learned)
    fresh = None if resume else _fresh_params(family, learned, training.seed)  # it may find fault with the sounds
    run.folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        run.write_source(shards)
    run.write_config(family, training)
    states = checkpoints.States(run.states, training.keep)
    try:
        objective = family.objective(training)
        state, history = _begin(objective, family, learned, training, states, fresh)
        if history.extended_from:
            objective = dataclasses.replace(objective, extended_from=history.extended_from)  # type: ignore[type-var]
        records = journal.Journal(run.journal, int(state.step), run.board)
        try:
            work = loop.Loop(
                objective, training, learned, held_out, states, records,
                publish=partial(_publish, run, family, objective, learned, states),
                preview=lambda params, step: write_preview(
                    Synth(family, jax.device_get(params)), held_out, run.previews / f"{step:07d}", training
                ),
                history=history, publish_when_stopped=not (run.replaces or run.weights.exists()), progress=progress,
            )  # fmt: skip
            if progress:
                print(_introduction(family, objective, learned, held_out, training), flush=True)
            if int(state.step) < training.steps:
                state = _rehearse(work, state, run, family)
            work.run(state)
        except loop.Stopped as stopped:
            stopped.remedy = _remedy(run)
            raise
        finally:
            records.close()
    finally:
        states.close()


def _begin(
    objective: Objective, family: Family, learned: Batches, training: TrainingConfig, states: checkpoints.States,
    fresh: Params | None,
) -> tuple[TrainState, loop.History]:  # fmt: skip
    """The state to go on from, and what lies behind it."""
    if states.latest is None:
        params = _fresh_params(family, learned, training.seed) if fresh is None else fresh
        return objective.init(params), loop.History()
    template = jax.eval_shape(objective.init, family.shapes())
    state, meta = states.restore(jax.tree.map(_on_first_device, template))
    history = loop.History(**meta)
    if history.steps <= int(state.step) < training.steps:
        history = dataclasses.replace(history, extended_from=int(state.step))
    return state, history


def _rehearse(work: loop.Loop, state: TrainState, run: Run, family: Family) -> TrainState:
    """The same state, after all that could fail late was tried."""
    phases = len(work.phases(int(state.step)))
    if work.progress and phases > 1:
        print(f"one step of each of the {phases} phases is tried first: what does not fit fails now", flush=True)
    state = work.rehearse(state)
    brief = dataclasses.replace(work.training, preview_seconds=TRIAL_SECONDS)
    try:
        synth = Synth(family, jax.device_get(state.ema))
        write_preview(synth, work.held_out, run.trial, brief, pictured=False)
    finally:
        shutil.rmtree(run.trial, ignore_errors=True)
    return state


def _publish(
    run: Run, family: Family, objective: Objective, learned: Batches, states: checkpoints.States, params: Params,
    step: int, value: float,
) -> None:  # fmt: skip
    """Publishes weights; the first ones of a run that shall replace another put it in that one's place."""
    run.publish(params | family.memory(params, learned), {"step": step, objective.metric: value})
    if run.replaces:
        states.moved(run.take_place)


def _remedy(run: Run) -> str:
    """How to go on with a run that stopped."""
    if run.replaces:
        return (
            f"the model in {run.home} is untouched; go on with the new one by --resume (resume=True) and the run {run}, or "
            "begin again by --force"
        )
    return "go on by --resume (resume=True)"


def _fresh_params(family: Family, learned: Batches, seed: int) -> Params:
    calibration = dataclasses.replace(learned, batch_size=CALIBRATION_WINDOWS, host=0, hosts=1)
    return family.init(jax.random.key(seed), calibration.batch(0))


def _on_first_device(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def _introduction(
    family: Family, objective: Objective, learned: Batches, held_out: Batches, training: TrainingConfig
) -> str:
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in family.baselines(learned, held_out).items())
    if loop.scored(held_out) == loop.HELD_OUT:
        count, sounds = f"{len(held_out.clips)} held out", "held-out sounds"
    else:
        count, sounds = "none held out, so validation scores training sounds", "training sounds"
    return (
        f"{family.name}: {learned.shards.seconds / 60:.1f} minutes of sound, {len(learned.clips)} clips to learn and "
        f"{count}, {training.steps} steps on {loop.devices()}.\n{objective.meaning.format(sounds=sounds)}: {metrics}; "
        f"{objective.aim}."
    )


def _open(source: Path, run: Run, resume: bool, force: bool, progress: bool) -> Shards:
    """The shards that `source` is, or those that are made of it in the run's folder; every byte of them is checked."""
    if (source / MANIFEST).exists():
        return _mapped(Shards.open(source, verify=True))
    places = [run.shards]
    if run.replaces and (run.home / run.shards.name / MANIFEST).exists():
        places.insert(0, run.home / run.shards.name)  # if they are still those of the folder
    if resume:
        places = [place for place in places if (place / MANIFEST).exists()]
        if not places:
            raise UserError(
                f"source is {str(source)!r}, which holds no shards, and {run} was begun with the shards "
                f"{run.read_source()['shards']}: name those"
            )
    for place in places:
        try:
            report = prepare(source, place, force=force and place == run.shards, progress=progress)
        except UserError as error:
            if place != places[-1]:
                continue
            if resume:
                raise UserError(f"{error}; to go on with the sounds as they were, name {place} as the source") from None
            raise
        if progress:
            print(report, flush=True)
        break
    return _mapped(Shards.open(place, verify=True))


def _mapped(shards: Shards) -> Shards:
    """The same shards, with all files open: a run that is put in another's place moves them."""
    for clip in {record.shard: index for index, record in enumerate(shards.clips)}.values():
        shards.samples(clip)
    return shards
