"""The command line: the functions of the Python interface, with flags made from their arguments and dataclasses."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

from wavesynth.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns its exit status. A user's error is one line on stderr and status 2."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name == "--version":
        import wavesynth

        print(f"wavesynth {wavesynth.__version__}")
        return 0
    if name not in COMMANDS:
        print(f"wavesynth: {name!r} is not a command: see wavesynth --help", file=sys.stderr)
        return 2
    try:
        COMMANDS[name](rest)
    except UserError as error:
        print(f"wavesynth {name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        print(f"wavesynth {name}: {error.strerror or error}{place}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"wavesynth {name}: {str(stopped) or 'interrupted'}", file=sys.stderr)
        return 130
    return 0


def prepare(arguments: list[str]) -> None:
    """FOLDER SHARDS: decode a folder of sounds into shards, and say what was taken and what was refused."""
    import wavesynth

    def prepare(
        folder: Path, shards: Path, /, sample_rate: int = 16_000, valid: float = 0.1,
        test: float = 0.1, workers: int | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        print(
            wavesynth.prepare(
                folder, shards, sample_rate=sample_rate, valid=valid, test=test, workers=workers, force=force
            )
        )

    _run(prepare, arguments)


def train(arguments: list[str]) -> None:
    """SHARDS|FOLDER RUN: train a model; --preset NAME, --steps N, --resume."""
    import wavesynth
    from wavesynth.api import DEFAULT_PRESET
    from wavesynth.config import TrainingConfig

    chosen = _peek("--preset", arguments, DEFAULT_PRESET)
    config = wavesynth.preset(chosen)

    def train(
        source: Path, run: Path, /, preset: str = chosen, resume: bool = False, force: bool = False,
        model: Any = config.model, training: TrainingConfig = config.training,
        steps: int | None = None,
    ) -> None:  # fmt: skip
        """Train a model on shards, or on a folder of sounds.

        Args:
            source: what prepare wrote, or a folder of sounds.
            run: the folder to write.
            preset: where all other settings start from.
            resume: go on with the run that is there.
            force: replace the run that is there.
            model: the shape of the network.
            training: how it is trained.
            steps: optimiser steps in all.
        """
        changed = dataclasses.replace(config, model=model, training=training)
        given = None if resume and changed == config else changed
        wavesynth.train(source, run, given, steps=steps, resume=resume, force=force)
        print(f"done: listen with  wavesynth sample {run} OUT --n 8 --seconds 2")

    _run(train, arguments)


def sample(arguments: list[str]) -> None:
    """RUN OUT: write wavs; --n 8 --seconds 2 --seed 0 [--label kick --pitch 60 --prime x.wav --temperature 0.9]."""
    import wavesynth

    def sample(
        run: Path, out: Path, /, n: int = 8, seconds: float = 2.0, seed: int = 0,
        label: str | None = None, pitch: float | None = None, prime: Path | None = None, temperature: float = 1.0,
        top_k: int | None = None, top_p: float | None = None, implementation: str | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Write n wavs of some seconds to OUT.

        Args:
            run: a run folder, or a published one.
            out: the folder to write.
            label: one of the labels that the model was trained with.
            pitch: MIDI number; 60 is middle C.
            prime: a sound to go on from.
            temperature: less than 1 is safer, more is wilder.
            top_k: draw from the k likeliest alone.
            top_p: draw from the likeliest that hold this share of the mass.
            implementation: of the sampler's inner loop; the best is taken where this is left out.
            force: overwrite wavs that are there.
        """
        paths = wavesynth.load(run).write(
            out, n, seconds, seed=seed, label=label, pitch=pitch, prime=prime, temperature=temperature, top_k=top_k,
            top_p=top_p, implementation=implementation, force=force, progress=True,
        )  # fmt: skip
        print(f"wrote {paths[0]}" + (f" to {paths[-1].name}" if n > 1 else ""))

    _run(sample, arguments)


def morph(arguments: list[str]) -> None:
    """RUN A B OUT: write the sounds on the way from label A to label B; --steps 9 --seconds 1 [--pitch 60]."""
    import wavesynth

    def morph(
        run: Path, a: str, b: str, out: Path, /, steps: int = 9,
        seconds: float = 1.0, seed: int = 0, pitch: float | None = None, temperature: float = 1.0, force: bool = False,
    ) -> None:  # fmt: skip
        """Write the sounds on the way from one label to another.

        Args:
            run: a run folder, or a published one.
            a: the label to begin with.
            b: the label to end with.
            out: the folder to write.
            pitch: MIDI number; 60 is middle C.
            force: overwrite wavs that are there.
        """
        from wavesynth.audio import files

        synth = wavesynth.load(run)
        out.mkdir(parents=True, exist_ok=True)
        sounds = synth.morph(a, b, steps, seconds, seed=seed, pitch=pitch, temperature=temperature)
        for index, sound in enumerate(sounds):
            files.write(out / f"{index:03d}.wav", sound, synth.sample_rate, force=force)
        print(f"wrote {out / '000.wav'} to {steps - 1:03d}.wav")

    _run(morph, arguments)


def score(arguments: list[str]) -> None:
    """RUN FOLDER: bits per sample of every sound in a folder; --quantization mulaw|int16."""
    import wavesynth

    def score(
        run: Path, folder: Path, /, quantization: str | None = None, label: str | None = None,
        pitch: float | None = None,
    ) -> None:  # fmt: skip
        """Print the bits per sample of every sound in a folder, and their mean over all samples.

        Args:
            run: a run folder, or a published one.
            folder: sounds, or one sound.
            quantization: the bins, "int16" or "mulaw"; the model's own where it is left out.
        """
        from wavesynth.api import score_files

        synth = wavesynth.load(run)
        for name, num_samples, bits in score_files(synth, folder, quantization=quantization, label=label, pitch=pitch):
            print(f"{bits:8.4f}  {num_samples / synth.sample_rate:8.2f} s  {name}", flush=True)

    _run(score, arguments)


def info(arguments: list[str]) -> None:
    """RUN: what a model is, what it was trained on and how far."""
    from wavesynth.api import describe

    def info(run: Path, /) -> None:
        print(describe(run))

    _run(info, arguments)


def demo(arguments: list[str]) -> None:
    """[OUT]: train on the sounds that come with wavesynth, sample, morph, and leave a page to look at and listen to."""
    import wavesynth.demo

    def demo(out: Path = Path("wavesynth-demo"), /, force: bool = False) -> None:
        """Train on the sounds that come with wavesynth, sample, morph, and leave a page.

        Args:
            out: the folder to write.
            force: replace an earlier demo.
        """
        wavesynth.demo.run(out, force=force)

    _run(demo, arguments)


COMMANDS = {
    "prepare": prepare, "train": train, "sample": sample, "morph": morph, "score": score, "info": info, "demo": demo,
}  # fmt: skip


def _overview() -> str:
    lines = [
        "wavesynth: a folder of sounds becomes an instrument",
        "",
        "usage: wavesynth COMMAND ... (--help for each)",
        "",
    ]
    lines += [f"  {name:8} {(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(lines)


def _run(function: Any, arguments: list[str]) -> None:
    import tyro

    tyro.cli(function, args=arguments, prog=f"wavesynth {function.__name__}")


def _peek(flag: str, arguments: list[str], default: str) -> str:
    """The value of one flag, before the others can be known."""
    for index, argument in enumerate(arguments):
        if argument.startswith(flag + "="):
            return argument[len(flag) + 1 :]
        if argument == flag and index + 1 < len(arguments):
            return arguments[index + 1]
    return default


if __name__ == "__main__":
    sys.exit(main())
