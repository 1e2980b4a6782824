"""The commands that make sounds and timbres."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from wavesynth.commands.parsing import run_command
from wavesynth.errors import UserError


def sample(arguments: list[str]) -> None:
    """RUN OUT: write wavs (or play, --play for OUT); --n 8 --seconds 2 --seed 0 [--label kick --pitch 60 --prime x.wav]."""
    from tyro.conf import arg

    import wavesynth

    def sample(
        run: Annotated[Path, arg(metavar="RUN")], out: Annotated[Path | None, arg(metavar="OUT")] = None, /,
        n: int = 8, seconds: float | None = None, seed: int = 0,
        label: str | None = None, pitch: float | None = None, prime: Path | None = None, temperature: float = 1.0,
        top_k: int | None = None, top_p: float | None = None, truncation: float = 1.0,
        implementation: str | None = None, dtype: str | None = None, play: bool = False, force: bool = False,
    ) -> None:  # fmt: skip
        """Write n wavs of some seconds to OUT, or play one sound as it is made.

        Args:
            run: a run folder, or a published one.
            out: the folder to write; none with --play.
            n: how many wavs.
            seconds: length of each; inf goes on until it is interrupted. Left out: the model's own length, or 1; to play, inf.
            seed: the same seed gives the same sounds.
            label: one of the labels that the model was trained with.
            pitch: MIDI number; 60 is middle C.
            prime: a sound to go on from.
            temperature: less than 1 is safer, more is wilder.
            top_k: draw from the k likeliest alone.
            top_p: draw from the likeliest that hold this share of the mass.
            truncation: less than 1 stays nearer to the middle of a latent space.
            implementation: of the sampler's inner loop; the fastest is taken where this is left out.
            dtype: of its weights, float32 or bfloat16 (faster); the model's own where this is left out.
            play: play one sound in place of writing n (extra play).
            force: overwrite wavs that are there.
        """
        if (out is None) != play:
            raise UserError("OUT, the folder to write, is required, or --play in its place; not both")
        synth = wavesynth.load(run)
        options: dict[str, Any] = dict(
            seed=seed, label=label, pitch=pitch, prime=prime, temperature=temperature, top_k=top_k, top_p=top_p,
            truncation=truncation, implementation=implementation, dtype=dtype,
        )  # fmt: skip
        if out is None:
            endless = math.inf if seconds is None else seconds
            return _play((block[0] for block in synth.blocks(1, endless, **options)), synth.sample_rate)
        paths = synth.write(out, n, seconds, force=force, progress=True, **options)
        print(f"wrote {paths[0]}" + (f" to {paths[-1].name}" if n > 1 else ""))

    run_command(sample, arguments)


def _play(blocks: Iterator[Any], sample_rate: int) -> None:
    from wavesynth.audio.playback import play

    for so_far in play(blocks, sample_rate):
        line = f"{so_far.seconds:8.1f} s, {so_far.real_time:.2f} times real time, {so_far.underruns} underruns"
        print(f"\r{line}", end="", flush=True)
    print()


def encode(arguments: list[str]) -> None:
    """RUN SOUND OUT: write the timbre that sounds most like a sound; --pitch 60 --label flute."""
    from tyro.conf import arg

    import wavesynth

    def encode(
        run: Annotated[Path, arg(metavar="RUN")], sound: Annotated[Path, arg(metavar="SOUND")],
        out: Annotated[Path, arg(metavar="OUT")], /, pitch: float | None = None, label: str | None = None, seed: int = 0,
        force: bool = False,
    ) -> None:  # fmt: skip
        """Write the timbre that sounds most like a sound, for decode, morph, grid, glide and render.

        Args:
            run: a run folder, or a published one.
            sound: the file to listen to.
            out: the file to write, OUT.json; its numbers lie beside it in OUT.safetensors.
            pitch: MIDI number of the sound; looked for in its name, then in itself, where it is left out.
            label: one of the labels that the model was trained with, where the sound is known to be of it.
            seed: of a search.
            force: overwrite the timbre that is there.
        """
        from wavesynth.timbre.timbre import files_of

        files_of(out, force)  # which fails before anything is searched
        timbre = wavesynth.load(run).encode(sound, pitch=pitch, label=label, seed=seed, progress=True)
        timbre.save(out, force=force)
        print(f"wrote {out}: {'x'.join(map(str, timbre.latent.shape))} numbers of {timbre.seconds:.2f} s")

    run_command(encode, arguments)


def decode(arguments: list[str]) -> None:
    """RUN TIMBRE OUT: write the sound of a timbre as a wav; --seconds 2 --fill hold|loop|stretch --pitch 60."""
    from tyro.conf import arg

    import wavesynth

    def decode(
        run: Annotated[Path, arg(metavar="RUN")], timbre: Annotated[Path, arg(metavar="TIMBRE")],
        out: Annotated[Path, arg(metavar="OUT")], /, seconds: float | None = None, pitch: float | None = None,
        fill: Literal["hold", "loop", "stretch"] = "hold", seed: int = 0, force: bool = False,
    ) -> None:  # fmt: skip
        """Write the sound of a timbre.

        Args:
            run: the run folder that it was encoded with.
            timbre: what encode wrote.
            out: the wav to write.
            seconds: length. Left out: that of the sound it was made of.
            pitch: MIDI number; 60 is middle C. Left out: that of the sound it was made of.
            fill: how a timbre is made to last longer: its end is held, it begins again, or all of it goes slower.
            seed: the same seed gives the same sound.
            force: overwrite the wav that is there.
        """
        from wavesynth.audio import files

        synth = wavesynth.load(run)
        with files.WavWriter(out, synth.sample_rate, force) as wav:
            wav.append(synth.decode(wavesynth.Timbre.load(timbre), seconds, pitch=pitch, fill=fill, seed=seed))
        print(f"wrote {out}")

    run_command(decode, arguments)


def morph(arguments: list[str]) -> None:
    """RUN A B OUT: the sounds on the way from A to B, a picture and metrics; labels, wavs or timbres; --steps 9."""
    from tyro.conf import arg

    import wavesynth

    def morph(
        run: Annotated[Path, arg(metavar="RUN")], a: Annotated[str, arg(metavar="A")],
        b: Annotated[str, arg(metavar="B")], out: Annotated[Path, arg(metavar="OUT")], /,
        steps: int = 9, seconds: float | None = None, seed: int = 0, pitch: float | None = None, temperature: float = 1.0,
        even: bool | None = None, match_loudness: bool = True, force: bool = False,
    ) -> None:  # fmt: skip
        """Write the sounds on the way from one sound, label or timbre to another, and how good a morph they are.

        OUT gets the wavs 000.wav ..., morph.wav, which plays them in turn, morph.png and metrics.json.

        Args:
            run: a run folder, or a published one.
            a: the label, the sound or the timbre to begin with.
            b: the label, the sound or the timbre to end with.
            out: the folder to write.
            steps: how many sounds, both ends included.
            seconds: length of each. Left out: the model's own length, that of the longer sound, or 1.
            seed: the same seed gives the same sounds.
            pitch: MIDI number of all; 60 is middle C. Left out: the way from one sound's to the other's.
            temperature: less than 1 is safer, more is wilder.
            even: space the steps evenly to the ear. Left out: where sounds are made whole.
            match_loudness: bring levels onto the straight way from one end's to the other's.
            force: overwrite what is there.
        """
        from wavesynth.evaluation.morphing import table
        from wavesynth.exports import morph_files, write_morph

        synth = wavesynth.load(run)
        morph_files(out, steps, force)  # which fails before anything is made
        morphed = synth.morph_analysis(
            a,
            b,
            steps,
            seconds,
            even=even,
            match_loudness=match_loudness,
            seed=seed,
            pitch=pitch,
            temperature=temperature,
        )
        metrics = write_morph(synth, morphed, out, force=force)
        print(f"wrote {out / '000.wav'} to {steps - 1:03d}.wav, and morph.wav, which plays them in turn")
        if metrics:
            print(table(metrics))

    run_command(morph, arguments)


def grid(arguments: list[str]) -> None:
    """RUN OUT CORNERS: the sounds between two to four corners; labels, wavs or timbres; --size 5."""
    from tyro.conf import arg

    import wavesynth

    def grid(
        run: Annotated[Path, arg(metavar="RUN")], out: Annotated[Path, arg(metavar="OUT")],
        corners: Annotated[tuple[str, ...], arg(metavar="CORNERS")], /, size: int = 5, seconds: float | None = None,
        seed: int = 0, pitch: float | None = None, force: bool = False,
    ) -> None:  # fmt: skip
        """Write the sounds between two to four corners: the first row goes from A to B, the last from C to D.

        Args:
            run: a run folder, or a published one.
            out: the folder to write: ROW-COLUMN.wav, and grid.png.
            corners: labels, sounds or timbres.
            size: sounds along each side.
            seconds: length of each. Left out: the model's own length, that of the longest sound, or 1.
            seed: the same seed gives the same sounds.
            pitch: MIDI number of all; 60 is middle C.
            force: overwrite what is there.
        """
        from wavesynth.exports import grid_files, write_grid

        synth = wavesynth.load(run)
        grid_files(out, size if len(corners) > 2 else 1, size, force)  # which fails before anything is made
        paths = write_grid(synth, synth.grid(corners, size, seconds, seed=seed, pitch=pitch), out, force=force)
        print(f"wrote {paths[0]} to {paths[-1].name}")

    run_command(grid, arguments)


def glide(arguments: list[str]) -> None:
    """RUN A B OUT: write one sound that moves from A to B; labels, wavs or timbres; --seconds 4."""
    from tyro.conf import arg

    import wavesynth

    def glide(
        run: Annotated[Path, arg(metavar="RUN")], a: Annotated[str, arg(metavar="A")],
        b: Annotated[str, arg(metavar="B")], out: Annotated[Path, arg(metavar="OUT")], /,
        seconds: float = 4.0, pitch: float | None = None, fill: Literal["hold", "loop", "stretch"] = "hold", seed: int = 0,
        force: bool = False,
    ) -> None:  # fmt: skip
        """Write one sound that moves from one sound, label or timbre to another.

        Args:
            run: a run folder, or a published one.
            a: the label, the sound or the timbre to begin with.
            b: the label, the sound or the timbre to end with.
            out: the wav to write.
            seconds: length.
            pitch: MIDI number; 60 is middle C. Left out: that of A.
            fill: how a timbre is made to last longer: its end is held, it begins again, or all of it goes slower.
            seed: the same seed gives the same sound.
            force: overwrite the wav that is there.
        """
        from wavesynth.audio import files

        synth = wavesynth.load(run)
        with files.WavWriter(out, synth.sample_rate, force) as wav:
            wav.append(synth.glide(a, b, seconds, pitch=pitch, fill=fill, seed=seed))
        print(f"wrote {out}")

    run_command(glide, arguments)


def render(arguments: list[str]) -> None:
    """SONG OUT: play a MIDI file into a wav; --synth RUN [--label flute, or --timbre A.json --glide B.json]."""
    from tyro.conf import arg

    import wavesynth

    def render(
        song: Annotated[Path, arg(metavar="SONG")], out: Annotated[Path, arg(metavar="OUT")], /,
        synth: Annotated[Path, arg(metavar="RUN")], timbre: Path | None = None, glide: Path | None = None,
        label: str | None = None, channels: tuple[int, ...] | None = None, seed: int = 0, force: bool = False,
    ) -> None:  # fmt: skip
        """Play the notes of a MIDI file into a wav.

        Args:
            song: the MIDI file.
            out: the wav to write.
            synth: a run folder, or a published one, of a model that plays pitches.
            timbre: what the notes sound like, a file that Timbre.save wrote.
            glide: such a file of the timbre to move to while the song goes on.
            label: one of the labels that the model was trained with, in place of a timbre.
            channels: those to play, 1 to 16; all but 10, the drums, where they are left out.
            seed: the same seed gives the same sounds.
            force: overwrite the wav that is there.
        """
        loaded = {name: wavesynth.Timbre.load(path) for name, path in (("timbre", timbre), ("glide", glide)) if path}
        print(
            wavesynth.render(
                song, out, wavesynth.load(synth), label=label, channels=channels, seed=seed, force=force, progress=True,
                **loaded,
            )
        )  # fmt: skip

    run_command(render, arguments)
