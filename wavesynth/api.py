"""Training, loading and describing models."""

import dataclasses
import math
from functools import partial
from os import PathLike
from pathlib import Path

import jax

from wavesynth.audio.names import display, user_path
from wavesynth.bases import Base, recorded
from wavesynth.config import Config, TrainingConfig
from wavesynth.data.batches import Batches
from wavesynth.data.info import dataset_info
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import MANIFEST, Shards
from wavesynth.errors import UserError
from wavesynth.families import Family, Generative, Trainable, abilities, bind, family_type, preset
from wavesynth.families.choice import suited_preset
from wavesynth.previews import write_preview
from wavesynth.rehearsal import plan, rehearse
from wavesynth.runs import Run
from wavesynth.sampling.devices import check_precision, check_process
from wavesynth.storage import DISK_FULL
from wavesynth.synth import Synth
from wavesynth.training import checkpoints, journal, loop
from wavesynth.training.budget import Budget
from wavesynth.training.objective import Objective
from wavesynth.training.state import Params, TrainState

PathName = str | PathLike[str]
AFFORDABLE_RATE = 24_000  # Hz; above, training says what a model costs that generates sample by sample
CALIBRATION_WINDOWS = 64


def train(
    source: PathName,
    run: PathName,
    config: Config | None = None,
    *,
    sample_rate: int | None = None,
    mono: bool = False,
    steps: int | None = None,
    minutes: float | None = None,
    base: PathName | None = None,
    resume: bool = False,
    force: bool = False,
    progress: bool = True,
) -> Synth:
    """Trains a model on a folder of sounds and returns it, ready to use.

    The run's folder receives the weights with the best validation metric (for `load`), the latest training states, metrics
    (`journal.jsonl`) and previews. `wavesynth.runs` lists all files. Before the first step, training tries one step of every
    phase, a validation and a preview, and checks the disk space, so that most failures come early.

    SIGINT and SIGTERM end training after the current step. The state is saved, and KeyboardInterrupt says how to continue.

    Args:
        source: shards from `prepare`, or a folder of sounds, which is first prepared into RUN/shards.
        run: the folder to write to.
        config: the model and its training settings; None for the run's own with `resume`, the base's own with
            `base`, and otherwise the preset that suits the sounds (the reason is printed).
        sample_rate: Hz, of a folder of sounds; None for that of the base, or the rate that most of the files have, at most
            48,000 Hz.
        mono: mix the sounds of a folder to one channel. Families that are mono always mix them.
        steps: number of steps; overrides the config.
        minutes: time for the whole call, instead of steps. Training measures its speed and then sets the number of steps, the
            warm-up, the moving average and the intervals of validations, previews and saved states. They override the config
            and are written to config.json. With `resume`, a finished run is extended by this time, and an unfinished run keeps
            its plan and trains for as long as that takes.
        base: a run or bundled model to begin from: its weights are the initial ones, and its network is used instead of the
            config's. The optimizer and the discriminators start afresh. The labels of the new sounds replace those of the base;
            a label that both have keeps its embedding. Sounds are mixed or spread to its channels; their sample rate must be
            its own, which a folder is converted to.
        resume: continue the run exactly where it stopped. Training settings may change, the network may not. More steps or
            minutes extend a finished run: the learning rate rises again, to at most a quarter of its peak, and weights are
            published only if validation improves.
        force: replace an existing run. The new run trains in RUN/.new and replaces the old one once it has published its
            first weights.
        progress: print a summary, and show progress on stderr.

    Returns:
        The model with the best validation metric.

    Raises:
        UserError: an argument is invalid, the sounds do not suit the model, another process is training the run, a file is
            damaged, the disk is full, or the loss is not finite. Everything saved so far stays readable.

    >>> config = ws.preset("wavenet-tiny")
    >>> synth = ws.train("shards", "runs/new", config, steps=2, progress=False)       # doctest: +SKIP
    """
    check_process()
    check_precision()
    budget = None if minutes is None else Budget(minutes)
    if steps is not None and budget:
        raise UserError(f"steps is {steps} and minutes is {minutes:g}: give one of them")
    if budget and jax.process_count() > 1:
        raise UserError(f"minutes is {minutes:g}, with {jax.process_count()} hosts, which differ in speed: give steps")
    if resume and base is not None:
        raise UserError(f"resume and base ({str(base)!r}) are both given: a resumed run keeps its base; leave base out")
    if resume and force:
        raise UserError("resume and force are both given: continue the run (resume) or replace it (force)")
    place = Run(run)
    if resume:
        config = place.resumed(config)
    else:
        place.check_new(force)
    begun_from = None if base is None else Base(base)
    if begun_from:
        config = begun_from.shaped(config) if config else begun_from.config()
    if config:
        config = _with_steps(config, steps)
    path = user_path(source)
    if begun_from and sample_rate is None and not (path / MANIFEST).exists():
        sample_rate = begun_from.family.dataset.sample_rate
    with place.locked():
        if force and place.config.exists():
            place = place.replacement()
        try:
            given = _Source(path, sample_rate, mono)
            _train(given, place, config, begun_from, steps, budget, resume, force, progress)
        except UserError as error:
            if place.replaces and place.config.exists():
                raise UserError(f"{error} ({place.home} is untouched, and {place} is the new run)") from None
            raise
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            where = error.filename or place
            raise UserError(
                f"the disk of {where} is full; everything saved so far is intact: free some space, then {_remedy(place)}"
            ) from None
    return load(place.home)


def load(run: PathName) -> Synth:
    """Loads a trained model. Loading executes no code from the folder and changes no process-wide settings.

    Args:
        run: a run folder, or the name of a bundled model, such as "checkpoints/instruments".

    Returns:
        The model, ready to use.

    Raises:
        UserError: a file is missing, damaged, from another version, or inconsistent with the others.

    >>> synth = ws.load("runs/mine")
    >>> synth.sample_rate
    16000
    """
    check_precision()
    place = Run(run)
    family, _ = place.read()
    return Synth(family, place.read_weights(family.published(family.shapes()) | family.memory_shapes()))


def config_of(run: PathName) -> Config:
    """The config of a run: its family, network and training settings.

    Args:
        run: a run folder, or the name of a bundled model.

    Raises:
        UserError: there is no run, or its config.json is damaged.

    >>> config_of("checkpoints/instruments").family
    'autoencoder'
    """
    family, training = Run(run).read()
    return Config(family.name, family.model, training)


def describe(run: PathName) -> str:
    """A short summary of a model: its family, abilities, training sounds and training progress.

    Args:
        run: a run folder, or the name of a bundled model, such as "checkpoints/instruments".

    Raises:
        UserError: there is no run, or its config.json is damaged.

    >>> print(describe("checkpoints/instruments"))            # doctest: +ELLIPSIS
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
    if base := place.read_base():
        lines.append(f"begun from   {base['name']}")
    if records := journal.read(place.journal):
        last = {name: value for record in records for name, value in record.items()}
        metrics = ", ".join(
            f"{name} {math.nan if value is None else value:.3f}"
            for name, value in last.items()
            if name not in ("step", "seconds")
        )
        lines.append(f"trained      {last['step']:,} steps in {last['seconds'] / 60:.1f} minutes: {metrics}")
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True)
class _Source:
    """Shards, or a folder of sounds and how to prepare it."""

    path: Path
    sample_rate: int | None
    mono: bool


def _train(
    source: _Source, run: Run, config: Config | None, base: Base | None, steps: int | None, budget: Budget | None,
    resume: bool, force: bool, progress: bool,
) -> None:  # fmt: skip
    """Trains in the folder of a locked run."""
    kind = family_type(config.family) if config else None
    shards = _open(source, run, kind, resume, force, progress)
    if resume:
        run.check_source(shards)
    dataset = run.read()[0].dataset if resume else dataset_info(shards)
    if base:
        dataset = base.dataset(dataset)
    if config is None:
        name, reason = suited_preset(dataset, shards.seconds, budget and budget.minutes)
        config = _with_steps(preset(name), steps)
        if progress:
            print(reason, flush=True)
    kind, training = family_type(config.family), config.training
    if shards.channels > kind.channels:
        if progress:
            print(
                f"{kind.name} is mono: the stereo shards are mixed. Sounds with inverted channels vanish; prepare with --mono "
                "to keep them.",
                flush=True,
            )
        dataset = dataclasses.replace(dataset, channels=kind.channels)
    family = bind(config.family, kind.adapt(config.model, dataset), dataset)
    learned = family.windows(shards, training)
    held_out = family.held_out(learned)
    fresh = None if resume else _fresh_params(family, learned, training.seed, base, progress)  # may reject the sounds
    run.folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        run.write_source(shards, base and base.place)
    run.write_config(family, training, base and base.record)
    states = checkpoints.States(run.states, training.keep)
    try:
        objective = family.objective(training)
        if states.latest is None and fresh is None:  # stopped before the first state was saved
            fresh = _fresh_params(family, learned, training.seed, recorded(run), progress)
        state, history = _begin(objective, family, training, states, fresh)
        begun = int(state.step) not in (0, training.steps)
        planning = None if begun else budget  # the plan of an unfinished run stays
        length = f"{planning.minutes:g} minutes" if planning else f"{training.steps} steps"
        if budget and not planning:
            length += " as planned before"
        records = journal.Journal(run.journal, int(state.step), run.board)
        try:
            work = loop.Loop(
                objective, training, learned, held_out, states, records,
                publish=partial(_publish, run, family, objective, learned, states),
                preview=lambda params, step: write_preview(
                    Synth(family, jax.device_get(params)), held_out, run.previews / f"{step:07d}", training
                ),
                history=history, publish_when_stopped=not (run.replaces or run.weights.exists()),
                from_base=run.read_base() is not None, progress=progress,
            )  # fmt: skip
            if progress:
                print(_introduction(family, objective, learned, held_out, f"{length} on {loop.devices()}"), flush=True)
            if planning:
                state = plan(work, state, run, family, planning)
            elif int(state.step) < training.steps:
                state = rehearse(work, state, run, family)
            work.run(state)
        except loop.Stopped as stopped:
            stopped.remedy = _remedy(run)
            raise
        finally:
            records.close()
    finally:
        states.close()


def _with_steps(config: Config, steps: int | None) -> Config:
    """The config with another number of steps, if one is given. Raises UserError unless its batches suit the devices."""
    loop.check_devices(config.training.batch_size)
    if steps is None:
        return config
    return dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))


def _begin(
    objective: Objective, family: Family, training: TrainingConfig, states: checkpoints.States, fresh: Params | None
) -> tuple[TrainState, loop.History]:  # fmt: skip
    """The state to start from, and the run's history."""
    if states.latest is None:
        return objective.init(fresh), loop.History()
    template = jax.eval_shape(objective.init, family.shapes())
    state, meta = states.restore(jax.tree.map(_on_first_device, template))
    history = loop.History(**meta)
    if history.steps <= int(state.step) < training.steps:
        history = dataclasses.replace(history, extended_from=int(state.step))
    return state, history


def _publish(
    run: Run, family: Family, objective: Objective, learned: Batches, states: checkpoints.States, params: Params,
    step: int, value: float,
) -> None:  # fmt: skip
    """Publishes weights. If the run replaces another, its first published weights trigger the replacement."""
    params = jax.device_get(params)  # as in the rehearsal, whose compiled programs serve again
    run.publish(params | family.memory(params, learned), {"step": step, objective.metric: value})
    if run.replaces:
        states.moved(run.take_place)


def _remedy(run: Run) -> str:
    """How to continue a run that stopped."""
    if run.replaces:
        return (
            f"the model in {run.home} is untouched; continue the new run with --resume (resume=True) and the run {run}, or "
            "start over with --force"
        )
    return "continue with --resume (resume=True)"


def _fresh_params(family: Family, learned: Batches, seed: int, base: Base | None, progress: bool) -> Params:
    """Initial values, or those of the base where they fit."""
    calibration = dataclasses.replace(learned, batch_size=CALIBRATION_WINDOWS, host=0, hosts=1)
    params = family.init(jax.random.key(seed), calibration.batch(0))
    if base:
        params, sentence = base.fitted(params, family)
        if progress:
            print(sentence, flush=True)
    return params


def _on_first_device(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def _introduction(family: Family, objective: Objective, learned: Batches, held_out: Batches, length: str) -> str:
    metrics = ", ".join(f"{name} {value:.2f}" for name, value in family.baselines(learned, held_out).items())
    if loop.scored(held_out) == loop.HELD_OUT:
        count, sounds = f"{len(held_out.clips)} held out", "held-out sounds"
    else:
        count, sounds = "none held out, so validation scores training sounds", "training sounds"
    return (
        f"{family.name}: {learned.shards.seconds / 60:.1f} minutes of sound, {len(learned.clips)} clips to learn and "
        f"{count}, {length}.\n{objective.meaning.format(sounds=sounds)}: {metrics}; "
        f"{objective.aim}.{_cost(family)}"
    )


def _cost(family: Family) -> str:
    """What a high rate costs a family that generates sample by sample; "" for other families and rates."""
    rate = family.dataset.sample_rate
    if rate <= AFFORDABLE_RATE or not (isinstance(family, Generative) and family.autoregressive):
        return ""
    return (
        f"\n{family.name} makes each second of sound from {rate:,} samples, one by one: training and sampling are "
        f"{rate / 16_000:.1f} times slower than at 16,000 Hz. Prepare the sounds at a lower rate (--sample-rate 16000), or "
        "train an autoencoder (--preset autoencoder-small)."
    )


def _open(source: _Source, run: Run, kind: type[Trainable] | None, resume: bool, force: bool, progress: bool) -> Shards:
    """Opens the shards at `source`, or prepares them for a family in the run's folder. Verifies every byte."""
    mixes = kind is not None and kind.channels == 1
    path, sample_rate, mono = source.path, source.sample_rate, source.mono or mixes
    if (path / MANIFEST).exists():
        shards = _mapped(Shards.open(path, verify=True))
        if sample_rate is not None or source.mono:
            given = f"sample_rate is {sample_rate}" if sample_rate is not None else "mono is set"
            raise UserError(
                f"{given}, but {display(path)} holds shards, which have {shards.sample_rate:,} Hz and {shards.channels} "
                "channels: leave sample_rate and mono out, or give the folder of sounds"
            )
        return shards
    places = [run.shards]
    if run.replaces and (run.home / run.shards.name / MANIFEST).exists():
        places.insert(0, run.home / run.shards.name)  # used if they still match the folder of sounds
    if resume:
        places = [place for place in places if (place / MANIFEST).exists()]
        if not places:
            raise UserError(
                f"source is {str(path)!r}, which holds no shards; {run} was started with the shards "
                f"{run.read_source()['shards']}: use those"
            )
        own = Shards.open(places[0])
        sample_rate, mono = sample_rate or own.sample_rate, mono or own.channels == 1
    for place in places:
        try:
            report = prepare(
                path, place, sample_rate=sample_rate, mono=mono, force=force and place == run.shards, progress=progress
            )
        except UserError as error:
            if place != places[-1]:
                continue
            if resume:
                raise UserError(f"{error}; to continue with the original sounds, use {place} as the source") from None
            raise
        if progress:
            print(report, flush=True)
            if kind and mixes and not source.mono and max(report.widths) > 1:
                print(f"{kind.name} is mono: stereo files were mixed.", flush=True)
        break
    return _mapped(Shards.open(place, verify=True))


def _mapped(shards: Shards) -> Shards:
    """Opens all files of some shards, so that they can be read after they are moved."""
    for clip in {record.shard: index for index, record in enumerate(shards.clips)}.values():
        shards.samples(clip)
    return shards
