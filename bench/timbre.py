"""How well and how fast a trained autoencoder reconstructs held-out sounds, and whether its codes separate pitch from timbre.

    python bench/timbre.py RUN SHARDS [--classifier JUDGE] [--sounds 90]
    taskset -c 0 python bench/timbre.py RUN SHARDS --sounds 0       (speed on one core)

Reconstruction of held-out sounds of at most 2 seconds, encoded and decoded at their own pitch:

- distance: the mean absolute difference of log-mel spectra in dB, over each sound's own length and channels; the median over
  sounds. The spectra are those of `mel_settings`: mel bands from 40 Hz to 20 kHz or half the sample rate, windows of about
  60 ms, and a floor of -60 dB (0 dB is a sine of amplitude 1). For comparison the same of silence, and of the nearest training
  sound with the same label. Also with floors of -80 and -100 dB, where nearly inaudible differences count as much as a note.
- image_level_db, image_correlation: of stereo sounds, how far the level difference and the correlation of the channels are from
  those of the recording (`wavesynth.evaluation.stereo_image`), medians over the bands of a sound, then over sounds.
- in_tune_percent: of the recordings with a pitch, how many reconstructions are within 50 cents of it (extra `pitch`).
- kept_percent: how many sounds decoded an octave up or down a classifier (--classifier, of the same labels) assigns to their
  label; for comparison the recordings, and sounds decoded at their own pitch. Sounds within the range of the label's training
  sounds are also counted separately, since the classifier has seen no others.

Speed, after compilation: encoding and decoding ten seconds, and a morph of 9 steps between two one-second sounds. `morph
command` is the whole of `wavesynth morph` for two wavs, with metrics and a picture; also without a compile cache.

--quick takes three sounds and one repeat, of the same model.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, arguments, interleaved, machine, print_table, shards_for, sound_of, write_json
from tqdm import tqdm

import wavesynth
from wavesynth import Synth
from wavesynth.audio import files
from wavesynth.audio import pitch as pitches
from wavesynth.audio.spectral import log_mel, mel_settings, num_frames
from wavesynth.data.batches import mono
from wavesynth.data.shards import Shards
from wavesynth.evaluation.stereo_image import image_error

LONGEST = 2.0  # seconds
CENTS = 50
OCTAVE = 12
FLOORS = (-60.0, -80.0, -100.0)  # dB


def spectrogram(sound: np.ndarray, length: int, rate: int) -> np.ndarray:
    """The log-mel spectrogram [C, F, bands] with the lowest floor. Padding all sounds to one length needs one XLA program."""
    cut = sound[:, :length]
    padded = np.pad(cut, ((0, 0), (0, length - cut.shape[1])))
    return np.asarray(log_mel(padded, rate, mel_settings(rate, floor_db=min(FLOORS))))


def apart(made: np.ndarray, wanted: np.ndarray, floor: float) -> float:
    """The mean absolute difference of two spectrograms, dB; what lies below the floor counts as the floor."""
    return float(np.abs(np.maximum(made, floor) - np.maximum(wanted, floor)).mean())


def reconstruction_rows(synth: Synth, shards: Shards, count: int, judge: Synth | None) -> list[Row]:
    held_out = [*shards.split("valid"), *shards.split("test")]
    chosen = [held_out[i] for i in np.linspace(0, len(held_out) - 1, min(count, len(held_out))).round().astype(int)]
    rate, longest = synth.sample_rate, round(LONGEST * synth.sample_rate)
    library: dict[str | None, list[np.ndarray]] = {}  # spectrograms by label
    ranges: dict[str | None, tuple[float, float]] = {}  # of pitches by label
    for clip in shards.split("train"):
        record = shards.clips[clip]
        known = sound_of(shards, clip, synth.channels, longest)
        library.setdefault(record.label, []).append(spectrogram(known, longest, rate))
        if record.pitch is not None:
            low, high = ranges.get(record.label, (record.pitch, record.pitch))
            ranges[record.label] = (min(low, record.pitch), max(high, record.pitch))
    distances: dict[tuple[float, str], list[float]] = {}
    cents_off, images = [], []
    kept: dict[str, list[bool]] = {}
    for clip in tqdm(chosen, unit="sound"):
        record = shards.clips[clip]
        sound = sound_of(shards, clip, synth.channels, longest)
        timbre = synth.encode(sound, rate, pitch=record.pitch)
        decoded = np.atleast_2d(synth.decode(timbre))
        frames = num_frames(sound.shape[1], mel_settings(rate).hop)
        wanted, *rest = (spectrogram(one, longest, rate)[:, :frames] for one in (sound, decoded))
        compared = {"reconstruction": rest, "nearest training sound": library.get(record.label, [])}
        for name, others in (compared | {"silence": [np.full_like(wanted, min(FLOORS))]}).items():
            for floor in FLOORS if others else ():
                least = min(apart(other[:, :frames], wanted, floor) for other in others)
                distances.setdefault((floor, name), []).append(least)
        if pitches.available() and synth.family.dataset.pitched:
            wanted, found = (pitches.median_pitch(mono(one), rate) for one in (sound, decoded))
            if wanted is not None:
                cents_off.append(np.inf if found is None else 100 * abs(found - wanted))
        if synth.channels == 2:
            images.append(image_error(sound, decoded, rate))
        if judge is not None and record.pitch is not None:
            tried = {"recording": sound, "own pitch": decoded}
            tried |= {f"{by:+d} semitones": synth.decode(timbre, pitch=record.pitch + by) for by in (-OCTAVE, OCTAVE)}
            mixed = np.stack([mono(np.atleast_2d(one)) for one in tried.values()])
            likely = judge.family.probabilities(judge.params, mixed).argmax(axis=1)
            for name, index, pitch in zip(tried, likely, record.pitch + np.array([0, 0, -OCTAVE, OCTAVE])):
                hit = judge.labels[index] == record.label
                kept.setdefault(name, []).append(hit)
                low, high = ranges.get(record.label, (0, -1))
                if "semitones" in name and low <= pitch <= high:
                    kept.setdefault("12 semitones away, within the label's range", []).append(hit)
    rows: list[Row] = [
        {"what": "distance", "floor": floor, "of": name, "median": statistics.median(values), "sounds": len(values)}
        for (floor, name), values in distances.items()
    ]
    for name, values in zip(("image_level_db", "image_correlation"), zip(*images, strict=True), strict=False):
        rows.append({"what": name, "of": "reconstruction", "median": statistics.median(values), "sounds": len(values)})
    if cents_off:
        rows.append({
            "what": "in_tune_percent", "of": "reconstruction", "median": 100 * float(np.mean(np.array(cents_off) <= CENTS)),
            "sounds": len(cents_off),
        })  # fmt: skip
    for name, hits in kept.items():
        if hits:
            rows.append({"what": "kept_percent", "of": name, "median": 100 * float(np.mean(hits)), "sounds": len(hits)})
    return rows


def speed_rows(run: Path, synth: Synth, shards: Shards, repeats: int) -> list[Row]:
    rate = synth.sample_rate
    joined = np.concatenate([sound_of(shards, clip, synth.channels) for clip in shards.split("train")[:200]], axis=1)
    ten = np.stack([np.resize(channel, 10 * rate) for channel in joined])
    pitch = 60.0 if synth.family.dataset.pitched else None
    timbre = synth.encode(ten, rate, pitch=pitch)
    seconds = [joined[:, first : first + rate] for first in (0, 5 * rate)]
    ends = [synth.encode(second, rate, pitch=pitch) for second in seconds]
    jobs: dict[str, tuple[float, Callable[[], Any]]] = {
        "encode": (10.0, lambda: synth.encode(ten, rate, pitch=pitch)),
        "decode": (10.0, lambda: synth.decode(timbre)),
        "morph": (9.0, lambda: synth.morph(*ends, steps=9)),
    }
    with tempfile.TemporaryDirectory() as folder:
        wavs = [Path(folder) / f"{name}_060.wav" for name in "ab"]
        for wav, second in zip(wavs, seconds, strict=True):
            files.write(wav, second, rate)
        command = [sys.executable, "-m", "wavesynth", "morph", str(run), *map(str, wavs), f"{folder}/out", "--force"]

        def morph_command(**environment: str) -> None:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)

        jobs["morph command"] = (9.0, morph_command)
        jobs["morph command, nothing compiled"] = (9.0, lambda: morph_command(JAX_ENABLE_COMPILATION_CACHE="false"))
        timings = interleaved({name: job for name, (_, job) in jobs.items()}, repeats)
    rows: list[Row] = []
    for name, timing in timings.items():
        rows.append({
            "what": name, "seconds": timing.median, "low": timing.low, "high": timing.high,
            "real_time_factor": jobs[name][0] / timing.median,
        })  # fmt: skip
    both = timings["encode"].median + timings["decode"].median
    return [*rows, {"what": "encode and decode", "seconds": both, "real_time_factor": 10 / both}]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="the trained model")
    parser.add_argument("shards", metavar="SHARDS", help="the shards it was trained on")
    parser.add_argument("--classifier", type=Path, metavar="JUDGE", help="a classifier of the same labels")
    parser.add_argument("--sounds", type=int, default=90, help="held-out sounds to reconstruct")
    parser.add_argument("--repeats", type=int, default=5, help="runs of what is timed")
    options = parser.parse_args()
    synth = wavesynth.load(options.run)
    judge = None if options.classifier is None else wavesynth.load(options.classifier)
    shards = shards_for(synth, options.shards)
    sounds, repeats = (min(options.sounds, 3), 1) if options.quick else (options.sounds, options.repeats)
    case: dict[str, Any] = {"implementation": "wavesynth", "model": synth.family.name, "quick": options.quick}
    rows: list[Row] = [machine()]
    quality = [case | row for row in reconstruction_rows(synth, shards, sounds, judge)] if sounds else []
    if quality:
        print_table(quality, ("what", "floor", "of", "median", "sounds"))
    timed = [case | row for row in speed_rows(options.run, synth, shards, repeats)]
    print_table(timed, ("what", "seconds", "low", "high", "real_time_factor"))
    write_json(options.json, rows + quality + timed)


if __name__ == "__main__":
    main()
