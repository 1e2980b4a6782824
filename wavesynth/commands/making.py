"""The commands that generate sounds and timbres."""

import math
import sys
from collections.abc import Iterator
from typing import Any

from wavesynth.commands.console import say
from wavesynth.commands.jax_settings import configure_jax
from wavesynth.commands.parsing import Flags, parse
from wavesynth.errors import UserError

ARRAYS_ONLY = ("sample_rate",)  # files specify their own sample rate


def sample(arguments: list[str]) -> None:
    """RUN OUT: write WAV files, or play one sound (--play instead of OUT); --n 8 --seconds 2 [--label kick --pitch 60]."""
    import wavesynth

    positional = {"run": "RUN", "folder": "OUT"}
    functions = (wavesynth.load, wavesynth.Synth.write, _player)
    flags = parse(sample, arguments, *functions, positional=positional, without=ARRAYS_ONLY, defaults={"folder": None})
    if (flags["folder"] is None) != flags["play"]:
        raise UserError("OUT, the folder to write to, or --play is required, but not both")
    if flags["play"] and (flags["n"] != 1 or flags["force"]):
        raise UserError("--play plays one sound and writes nothing: leave out --n and --force")
    configure_jax()
    synth = flags.call(wavesynth.load)
    if flags["play"]:
        seconds = math.inf if flags["seconds"] is None else flags["seconds"]
        return _play(synth.blocks(**flags.arguments(synth.blocks, n=1, seconds=seconds)), synth.sample_rate, flags)
    paths = flags.call(synth.write)
    say(f"wrote {paths[0]}" + (f" to {paths[-1].name}" if len(paths) > 1 else ""))


def _player(*, play: bool = False) -> None:
    """The option of `sample` to play instead of writing.

    Args:
        play: play one sound while it is generated, for `seconds` or until interrupted (extra `play`).
    """


def _play(blocks: Iterator[Any], sample_rate: int, flags: Flags) -> None:
    from wavesynth.audio.playback import play

    for so_far in play((block[0] for block in blocks), sample_rate):
        if not flags["quiet"]:
            line = f"{so_far.seconds:8.1f} s, {so_far.real_time:.2f} times real time, {so_far.underruns} underruns"
            print(f"\r{line}", end="", flush=True, file=sys.stderr)
    if not flags["quiet"]:
        print(file=sys.stderr)


def encode(arguments: list[str]) -> None:
    """RUN SOUND OUT: encode a sound to a timbre (.json), for decode, morph, grid, glide and render."""
    import wavesynth
    from wavesynth.timbre.timbre import files_of

    positional = {"run": "RUN", "sound": "SOUND", "path": "OUT"}
    functions = (wavesynth.load, wavesynth.Synth.encode, wavesynth.Timbre.save)
    flags = parse(encode, arguments, *functions, positional=positional, without=ARRAYS_ONLY)
    files_of(flags["path"], flags["force"])  # fails before anything is encoded
    configure_jax()
    synth = flags.call(wavesynth.load)
    timbre = flags.call(synth.encode)
    flags.call(timbre.save)
    say(
        f"wrote {flags['path']}: {'x'.join(map(str, timbre.latent.shape))} numbers of {timbre.seconds:.2f} s"
        + ("" if timbre.pitch is None else f" at pitch {timbre.pitch:.4g}")
    )


def decode(arguments: list[str]) -> None:
    """RUN TIMBRE OUT: decode a timbre to a WAV file; --seconds 2 --fill hold|loop|stretch --pitch 60."""
    import wavesynth

    _write_one(decode, arguments, wavesynth.Synth.decode, {"run": "RUN", "timbre": "TIMBRE", "path": "OUT"})


def glide(arguments: list[str]) -> None:
    """RUN A B OUT: write one sound that moves from A to B (labels, sounds or timbres); --seconds 4."""
    import wavesynth

    _write_one(glide, arguments, wavesynth.Synth.glide, {"run": "RUN", "a": "A", "b": "B", "path": "OUT"})


def _write_one(command: Any, arguments: list[str], method: Any, positional: dict[str, str]) -> None:
    """Writes the sound that a synth's method returns to a WAV file."""
    import wavesynth
    from wavesynth.audio.wav import WavWriter

    functions = (wavesynth.load, method, WavWriter)
    flags = parse(command, arguments, *functions, positional=positional, without=(*ARRAYS_ONLY, "samples"))
    configure_jax()
    synth = flags.call(wavesynth.load)
    with flags.call(WavWriter, sample_rate=synth.sample_rate) as wav:
        wav.append(flags.call(getattr(synth, method.__name__)))
    say(f"wrote {wav.path}")


def morph(arguments: list[str]) -> None:
    """RUN A B OUT: morph from A to B (labels, sounds or timbres), with a picture and metrics; --steps 9.

    Writes to OUT the sounds 000.wav ..., morph.wav (all of them in sequence), morph.png and metrics.json.
    """
    import wavesynth
    from wavesynth.evaluation.morphing import table
    from wavesynth.exports import morph_files, write_morph

    positional = {"run": "RUN", "a": "A", "b": "B", "folder": "OUT"}
    functions = (wavesynth.load, wavesynth.Synth.morph, write_morph)
    flags = parse(morph, arguments, *functions, positional=positional, without=(*ARRAYS_ONLY, "synth", "morph"))
    out, steps = flags["folder"], flags["steps"]
    flags.call(morph_files)  # fails before anything is generated
    configure_jax()
    synth = flags.call(wavesynth.load)
    metrics = flags.call(write_morph, synth=synth, morph=flags.call(synth.morph_analysis))
    say(f"wrote {out / '000.wav'} to {steps - 1:03d}.wav, and morph.wav, which plays them in sequence")
    if metrics:
        say(table(metrics))


def grid(arguments: list[str]) -> None:
    """RUN OUT CORNERS: interpolate between two to four corners (labels, sounds or timbres); --size 5.

    Writes to OUT the sounds ROW-COLUMN.wav, and grid.png.
    """
    import wavesynth
    from wavesynth.exports import grid_files, write_grid

    positional = {"run": "RUN", "folder": "OUT", "corners": "CORNERS"}
    functions = (wavesynth.load, write_grid, wavesynth.Synth.grid)
    flags = parse(grid, arguments, *functions, positional=positional, without=(*ARRAYS_ONLY, "synth", "sounds"))
    corners, size = flags["corners"], flags["size"]
    grid_files(
        flags["folder"], size if len(corners) > 2 else 1, size, flags["force"]
    )  # fails before anything is generated
    configure_jax()
    synth = flags.call(wavesynth.load)
    paths = flags.call(write_grid, synth=synth, sounds=flags.call(synth.grid))
    say(f"wrote {paths[0]} to {paths[-1].name}")


def render(arguments: list[str]) -> None:
    """SONG OUT: render a MIDI file to a WAV file; --synth RUN [--label flute, or --timbre A.json --glide B.json]."""
    import wavesynth

    flags = parse(render, arguments, wavesynth.render, positional={"song": "SONG", "out": "OUT"})
    configure_jax()
    say(flags.call(wavesynth.render))
