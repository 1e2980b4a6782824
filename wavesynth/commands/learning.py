"""The commands that learn from sounds, and judge what was learned."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from wavesynth.commands.parsing import peek, run_command
from wavesynth.errors import UserError


def prepare(arguments: list[str]) -> None:
    """FOLDER SHARDS: decode a folder of sounds into shards, and say what was taken and what was refused."""
    from tyro.conf import arg

    import wavesynth

    def prepare(
        folder: Annotated[Path, arg(metavar="FOLDER")], shards: Annotated[Path, arg(metavar="SHARDS")], /,
        sample_rate: int = 16_000, valid: float = 0.1, test: float = 0.1, track_pitch: bool = False,
        workers: int | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Decode a folder of sounds into shards, and say what was taken and what was refused.

        Args:
            folder: the sounds, nested as they are.
            shards: the folder to write.
            sample_rate: Hz.
            valid: share of the clips that is kept for validation.
            test: share of the clips that is kept for testing.
            track_pitch: hear the pitch of single notes whose names do not tell it (extra pitch).
            workers: files decoded at the same time; one per processor where it is left out.
            force: replace the shards that are there.
        """
        print(
            wavesynth.prepare(
                folder, shards, sample_rate=sample_rate, valid=valid, test=test, track_pitch=track_pitch, workers=workers,
                force=force,
            )
        )  # fmt: skip

    run_command(prepare, arguments)


def train(arguments: list[str], resumed: Any = None) -> None:
    """SHARDS|FOLDER RUN: train a model; --preset NAME, --steps N, --resume."""
    from tyro.conf import arg

    import wavesynth
    from wavesynth.api import DEFAULT_PRESET, config_of
    from wavesynth.commands import COMMANDS
    from wavesynth.families import Generative
    from wavesynth.runs import CONFIG
    from wavesynth.training.memory import keep_freed_memory

    keep_freed_memory()

    chosen = peek("--preset", arguments)
    config = resumed or wavesynth.preset(chosen or DEFAULT_PRESET)

    def train(
        source: Annotated[Path, arg(metavar="SHARDS|FOLDER")], run: Annotated[Path, arg(metavar="RUN")], /,
        preset: str = chosen or DEFAULT_PRESET, resume: bool = False, force: bool = False,
        model: Any = config.model, training: Any = config.training,
        steps: int | None = None,
    ) -> None:  # fmt: skip
        """Train a model on shards, or on a folder of sounds.

        Args:
            source: what prepare wrote, or a folder of sounds.
            run: the folder to write.
            preset: where all other settings start from; with --resume they start from the run's own.
            resume: go on with the run that is there.
            force: replace the run that is there.
            model: the shape of the network.
            training: how it is trained.
            steps: optimiser steps in all, in place of --training.steps.
        """
        if resume and not resumed and (run / CONFIG).exists():
            own = config_of(run)
            return COMMANDS["train"](arguments, dataclasses.replace(config if chosen else own, training=own.training))
        changed = dataclasses.replace(config, model=model, training=training)
        synth = wavesynth.train(source, run, changed, steps=steps, resume=resume, force=force)
        if isinstance(synth.family, Generative):
            print(f"done: listen with  wavesynth sample {run} OUT --n 8 --seconds 2")
        else:
            print(f"done: judge what another run makes with  wavesynth evaluate RUN SHARDS --classifier {run}")

    run_command(train, arguments)


def score(arguments: list[str]) -> None:
    """RUN FOLDER: bits per sample of every sound in a folder; --quantization mulaw|int16."""
    from tyro.conf import arg

    import wavesynth

    def score(
        run: Annotated[Path, arg(metavar="RUN")], folder: Annotated[Path, arg(metavar="FOLDER")], /,
        quantization: str | None = None, label: str | None = None, pitch: float | None = None,
    ) -> None:  # fmt: skip
        """Print the bits per sample of every sound in a folder, and their mean over all samples.

        Args:
            run: a run folder, or a published one.
            folder: sounds, or one sound.
            quantization: the bins, "int16" or "mulaw"; the model's own where it is left out.
            label: one of the labels that the model was trained with.
            pitch: MIDI number; 60 is middle C.
        """
        from wavesynth.judging import score_files

        synth = wavesynth.load(run)
        for name, num_samples, bits in score_files(synth, folder, quantization=quantization, label=label, pitch=pitch):
            print(f"{bits:8.4f}  {num_samples / synth.sample_rate:8.2f} s  {name}", flush=True)

    run_command(score, arguments)


def evaluate(arguments: list[str]) -> None:
    """RUN SHARDS: how made sounds compare with held-out ones; --classifier RUN --n 500 --json PATH."""
    from tyro.conf import arg

    import wavesynth

    def evaluate(
        run: Annotated[Path, arg(metavar="RUN")], shards: Annotated[Path, arg(metavar="SHARDS")], /,
        classifier: Path | None = None, n: int = 500, seconds: float | None = None, seed: int = 0,
        json: Path | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Compare sounds that a model makes with those that were held out while it was trained.

        Args:
            run: a run folder, or a published one.
            shards: what it was trained on.
            classifier: the run of a classifier of the same labels, for the metrics that need one.
            n: how many sounds to make.
            seconds: length of each. Left out: the model's own length, or that of the median clip, 10 at most.
            seed: the same seed gives the same metrics.
            json: a file to write the metrics to.
            force: overwrite that file.
        """
        from wavesynth.config import to_json

        if json is not None and json.exists() and not force:
            raise UserError(f"{json} is there already: name another file, or overwrite it by --force")
        synth = wavesynth.load(run)
        metrics = wavesynth.evaluate(synth, shards, classifier, n=n, seconds=seconds, seed=seed)
        print(metrics)
        if classifier is None and len(synth.labels) > 1:
            print(
                "label accuracy, inception score and Fréchet distance need a classifier, --classifier runs/judge. Train it:"
            )
            print(f"  wavesynth train {shards} runs/judge --preset classifier")
        if json is not None:
            json.write_text(to_json(metrics))

    run_command(evaluate, arguments)


def info(arguments: list[str]) -> None:
    """RUN: what a model is, what it was trained on and how far."""
    from tyro.conf import arg

    from wavesynth.api import describe

    def info(run: Annotated[Path, arg(metavar="RUN")], /) -> None:
        """Print what a model is, what it was trained on and how far.

        Args:
            run: a run folder, or a published one.
        """
        print(describe(run))

    run_command(info, arguments)


def demo(arguments: list[str]) -> None:
    """[OUT]: train on the sounds that come with wavesynth, sample, morph, and leave a page to look at and listen to."""
    from tyro.conf import arg

    import wavesynth.demo
    from wavesynth.training.memory import keep_freed_memory

    def demo(out: Annotated[Path, arg(metavar="OUT")] = Path("wavesynth-demo"), /, force: bool = False) -> None:
        """Train on the sounds that come with wavesynth, sample, morph, and leave a page.

        Args:
            out: the folder to write.
            force: replace an earlier demo.
        """
        wavesynth.demo.run(out, force=force)

    keep_freed_memory()
    run_command(demo, arguments)
