"""The commands that prepare sounds, train models and evaluate them."""

import dataclasses
from pathlib import Path
from typing import Any

from wavesynth.audio.names import user_path
from wavesynth.commands.console import say
from wavesynth.commands.jax_settings import configure_jax
from wavesynth.commands.parsing import parse, peek
from wavesynth.errors import UserError


def prepare(arguments: list[str]) -> None:
    """FOLDER SHARDS: decode a folder of sounds into shards for training; report which files were used or refused, and why."""
    import wavesynth

    positional = {"folder": "FOLDER", "shards": "SHARDS"}
    flags = parse(prepare, arguments, wavesynth.prepare, positional=positional, renamed={"pitches": "pitch"})
    say(flags.call(wavesynth.prepare))


def train(arguments: list[str]) -> None:
    """SHARDS|FOLDER RUN: train a model; --preset NAME, --minutes M or --steps N, --resume.

    Without --preset, training chooses one that suits the sounds. With --preset=NAME, --help also lists its settings.
    """
    import wavesynth
    from wavesynth.families import Generative
    from wavesynth.training.memory import keep_freed_memory

    config = _config(arguments)
    settings = {"model": config.model, "training": config.training} if config else {}
    functions = (wavesynth.train, wavesynth.preset, *([wavesynth.Config] if config else []))
    flags = parse(
        train, arguments, *functions, positional={"source": "SHARDS|FOLDER", "run": "RUN"}, without=("config", "family"),
        renamed={"name": "preset"}, defaults={"preset": peek("--preset", arguments), **settings},
    )  # fmt: skip
    configure_jax()
    keep_freed_memory()
    if config:
        config = dataclasses.replace(config, model=flags["model"], training=flags["training"])
    synth = flags.call(wavesynth.train, config=config)
    run = flags["run"]
    if isinstance(synth.family, Generative):
        say(f"done; to listen:  wavesynth sample {run} OUT --n 8 --seconds 2")
    else:
        say(f"done; to evaluate another run:  wavesynth evaluate RUN SHARDS --classifier {run}")


def _config(arguments: list[str]) -> Any:
    """The config whose settings are flags of `train`: of the preset, the base or the run to resume; None without them."""
    import wavesynth
    from wavesynth.api import config_of
    from wavesynth.bases import Base
    from wavesynth.runs import CONFIG

    chosen, base = peek("--preset", arguments), peek("--base", arguments)
    config = wavesynth.preset(chosen) if chosen else None
    begun = [argument for argument in arguments if (user_path(argument) / CONFIG).exists()]
    if "--resume" in arguments and begun:
        own = config_of(begun[-1])
        return dataclasses.replace(config or own, training=own.training)
    if base:
        return Base(base).config(config)
    setting = next((argument for argument in arguments if argument.startswith(("--model.", "--training."))), None)
    if setting and not config:
        name = setting.partition("=")[0]
        raise UserError(f"{name} is a setting of a preset, and no preset is given: choose one with --preset")
    return config


def score(arguments: list[str]) -> None:
    """RUN FOLDER: print the bits per sample of every sound in a folder, and their mean; lower is better."""
    import wavesynth

    positional = {"run": "RUN", "folder": "FOLDER"}
    without = ("synth", "sound", "sample_rate")
    functions = (wavesynth.load, wavesynth.score_files, wavesynth.Synth.log_prob)
    flags = parse(score, arguments, *functions, positional=positional, without=without)
    configure_jax()
    synth = flags.call(wavesynth.load)
    options = flags.arguments(synth.log_prob) | flags.arguments(wavesynth.score_files, synth=synth)
    for name, num_samples, bits in wavesynth.score_files(**options):
        say(f"{bits:8.4f}  {num_samples / synth.sample_rate:8.2f} s  {name}")


def evaluate(arguments: list[str]) -> None:
    """RUN SHARDS: compare generated sounds with held-out ones; --classifier RUN --n 500 --json PATH."""
    import wavesynth
    from wavesynth.config import to_json
    from wavesynth.storage import write_file

    positional = {"synth": "RUN", "shards": "SHARDS"}
    flags = parse(evaluate, arguments, wavesynth.evaluate, _metrics_file, positional=positional)
    json = flags.call(_metrics_file)
    configure_jax()
    synth = wavesynth.load(flags["synth"])
    metrics = flags.call(wavesynth.evaluate, synth=synth)
    say(metrics)
    if flags["classifier"] is None and len(synth.labels) > 1:
        say(
            "label accuracy, inception score and Fréchet distance need a classifier (--classifier runs/judge). To train one:"
        )
        say(f"  wavesynth train {flags['shards']} runs/judge --preset classifier")
    if json is not None:
        write_file(json, to_json(metrics).encode())


def _metrics_file(*, json: Path | None = None, force: bool = False) -> Path | None:
    """The file to write metrics to.

    Args:
        json: A JSON file to write the metrics to.
        force: Overwrite that file.
    """
    if json is not None and json.exists() and not force:
        raise UserError(f"{json} exists: choose another file, or overwrite it with --force")
    if json is not None and not json.absolute().parent.is_dir():
        raise UserError(f"{json}: there is no folder {json.parent}; choose a file in an existing folder")
    return json


def info(arguments: list[str]) -> None:
    """RUN: describe a model, its training sounds and its training progress."""
    from wavesynth.api import describe

    flags = parse(info, arguments, describe, positional={"run": "RUN"})
    configure_jax()
    say(flags.call(describe))


def demo(arguments: list[str]) -> None:
    """[OUT]: train on the bundled sounds, sample, morph, and write a web page with pictures and sounds."""
    import wavesynth.demo
    from wavesynth.training.memory import keep_freed_memory

    flags = parse(demo, arguments, wavesynth.demo.run, positional={"out": "OUT"})
    configure_jax()
    keep_freed_memory()
    flags.call(wavesynth.demo.run)
