"""Reconstruction by wavesynth's autoencoder and by RAVE, trained on the same recordings for the same minutes, one core each.

    python bench/rave.py --rave-venv PATH --sounds FOLDER [--held-out NAME] [--minutes 5 25 60] [--json PATH]

One recording of the folder is held out; both learn from all others. All are mixed to 44.1 kHz mono and 16 bits. Needs Linux and
two cores. RAVE (Caillon and Esling, 2021) needs an environment of its own, with Python 3.11, and ffmpeg, without which it waits
for ever:

    python3.11 -m venv PATH
    PATH/bin/pip install acids-rave==2.3.1 torch==2.5.0 torchaudio==2.5.0 scipy==1.10.0 pytorch-lightning==1.9.0 \\
        "numpy<2" "setuptools<70" nn-tilde cached-conv

Training:

- wavesynth: the preset autoencoder-small by `wavesynth.train(..., minutes=M)`. Its schedule follows the minutes, so each
  duration is a run of its own.
- rave: `rave train --config v2_small --channels 1 --workers 0`. Its schedule does not depend on the duration, so there is one
  run, and its weights are saved after the first step past each of the durations. It trains on until wavesynth is done, so that
  every run has the same busy neighbour. RAVE itself saves by the number of steps; here it saves by the clock. Nothing else of
  its trainer is changed.

Both have a core of their own, one thread on it, and keep freed memory. Both clocks include building or compiling the model, and
exclude importing the package and preparing the sounds. wavesynth learns from all recordings but the one held out, without a
validation split; so does RAVE, except for the 2 % that it always sets aside.

Each row measures seconds 2 to 22 of the held-out recording, encoded and decoded on their own, and clipped to [-1, 1]:

- log_mel_db: mean absolute difference of log-mel spectra: 128 bands from 30 Hz to 20 kHz, window 2,048, hop 512. The gain that
  brings the recording to -20 dB RMS is applied to both; the floor is -100 dB.
- rave_distance: the loss that RAVE trains on. For Hann windows of 2,048, 1,024, 512, 256 and 128 with a hop of a quarter, the
  sum of mean((X - Y)^2) / mean(X^2) + mean|log(X + 1e-7) - log(Y + 1e-7)|, with X the magnitudes of the recording.
- visqol: ViSQOL's estimate of the mean opinion score in audio mode, from 1 to 4.73 (the recording itself, at any level), if
  `visqol-python` is installed beside wavesynth. It takes half a minute per row.
- gain_db: level of the reconstruction relative to the recording.
- weights: number of weights of the encoder and the decoder.
- real_time_factor: seconds of sound encoded and decoded per second by one core, after compilation; the median of several runs.

The row `silence` has the distances of silence instead of a reconstruction. RAVE decodes the means of its codes, as its exported
models do, not samples. --work keeps the models, and the recording and its reconstructions as WAV files.

--quick trains the same models for two minutes, and times one run; all of it takes some four minutes.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import soundfile
import soxr
from harness import Row, arguments, interleaved, machine, print_table, write_json

import wavesynth
from wavesynth.api import config_of
from wavesynth.audio import files
from wavesynth.audio.spectral import MelSettings, log_mel_distance, stft_magnitude
from wavesynth.data.corpus import scan
from wavesynth.training.memory import keep_freed_memory

RATE = 44_100
FIRST, LAST = 2, 22  # seconds of the held-out recording that are measured
PRESET, RAVE_CONFIG = "autoencoder-small", "v2_small"
MEL = MelSettings(window=2_048, hop=512, num_bands=128, lowest_hz=30.0, highest_hz=20_000.0, floor_db=-100.0)
LEVEL_DB = -20.0  # RMS of the recording where log-mel spectra are compared
RAVE_WINDOWS, RAVE_EPSILON = (2_048, 1_024, 512, 256, 128), 1e-7
VISQOL_RATE = 48_000
COLUMNS = (
    "what", "implementation", "model", "minutes", "steps", "log_mel_db", "rave_distance", "visqol", "gain_db", "weights",
    "real_time_factor",
)  # fmt: skip

PEER = '''
"""What runs in RAVE's environment: `train ARGUMENTS` and `reconstruct ARGUMENTS`, both as JSON."""

import json
import os
import statistics
import sys
import time

import cached_conv
import gin
import rave
import rave.core
import soundfile
import torch
from absl import app
from scripts import train as rave_train


def train(folder, minutes, flags):
    """Trains until it is stopped. Saves FOLDER/MINUTES.ckpt after each of the minutes."""
    began, left = time.perf_counter(), sorted(minutes)

    class SaveByTheClock(rave.core.ModelCheckpoint):
        steps = 0

        def on_train_batch_end(self, trainer, model, *_):
            self.steps += 1
            while left and time.perf_counter() - began >= 60 * left[0]:
                path = f"{folder}/{left.pop(0):g}.ckpt"
                torch.save({"steps": self.steps, "state_dict": model.state_dict()}, path + ".tmp")
                os.replace(path + ".tmp", path)

    rave.core.ModelCheckpoint = SaveByTheClock
    app.run(rave_train.main, ["rave train", *flags])


def reconstruct(checkpoint, config, sound, decoded, facts, repeats):
    """Encodes and decodes a mono WAV file. Writes another, and a JSON file of facts."""
    cached_conv.use_cached_conv(False)
    gin.parse_config_file(config + ".gin")
    saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = rave.RAVE(n_channels=1).eval()
    model.load_state_dict(saved["state_dict"])
    samples, rate = soundfile.read(sound, dtype="float32")
    x = torch.from_numpy(samples)[None, None]
    x = torch.nn.functional.pad(x, (0, -x.shape[-1] % 4096))  # to whole codes

    def once():
        mean, _ = model.encode(x).chunk(2, dim=1)
        return model.decode(mean)

    seconds = []
    with torch.inference_mode():
        torch.manual_seed(0)  # of the decoder's noise
        y = once()[0, 0, : len(samples)].numpy()
        for _ in range(repeats):
            began = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - began)
    soundfile.write(decoded, y, rate, subtype="FLOAT")
    weights = sum(p.numel() for part in (model.encoder, model.decoder) for p in part.parameters())
    with open(facts, "w") as file:
        json.dump({"steps": saved["steps"], "weights": weights, "seconds": statistics.median(seconds)}, file)


{"train": train, "reconstruct": reconstruct}[sys.argv[1]](**json.loads(sys.argv[2]))
'''


class Reconstruction(NamedTuple):
    """A sound that was encoded and decoded, float [T], the model's steps and weights, and the seconds that both took."""

    sound: np.ndarray
    steps: int
    weights: int
    seconds: float


# Distances


def log_mel_db(recording: np.ndarray, made: np.ndarray) -> float:
    gain = 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(np.square(recording)))
    return float(log_mel_distance(gain * recording, gain * made, RATE, MEL))


def rave_distance(recording: np.ndarray, made: np.ndarray) -> float:
    total = 0.0
    for window in RAVE_WINDOWS:
        x, y = (unnormalised(sound, window) for sound in (recording, made))
        logarithms = [np.log(magnitude + RAVE_EPSILON) for magnitude in (x, y)]
        total += np.mean(np.square(x - y)) / np.mean(np.square(x)) + np.mean(np.abs(logarithms[0] - logarithms[1]))
    return float(total)


def unnormalised(sound: np.ndarray, window: int) -> np.ndarray:
    """Magnitudes as torchaudio's Spectrogram gives them: no scale, the sound reflected at its ends."""
    hop = window // 4
    extended = np.pad(sound, window // 2, mode="reflect")
    frames = np.asarray(stft_magnitude(extended, window, hop), np.float64)[2:-2]
    return frames * window / 4  # a Hann window adds up to half its length


def visqol(recording: np.ndarray, made: np.ndarray) -> float | None:
    """ViSQOL's estimate of the mean opinion score; None of silence, and if it is not installed."""
    if importlib.util.find_spec("visqol") is None or not made.any():
        return None
    from visqol import VisqolApi  # pyright: ignore[reportMissingImports]

    api = VisqolApi()
    api.create(mode="audio")
    sounds = [soxr.resample(sound.astype(np.float64), RATE, VISQOL_RATE) for sound in (recording, made)]
    return float(api.measure_from_arrays(*sounds, sample_rate=VISQOL_RATE).moslqo)


def gain_db(recording: np.ndarray, made: np.ndarray) -> float | None:
    """Level relative to the recording; None of silence."""
    power = np.mean(np.square(made)) / np.mean(np.square(recording))
    return float(10 * np.log10(power)) if power else None


def metrics(recording: np.ndarray, made: np.ndarray) -> Row:
    made = np.clip(made, -1, 1)
    return {distance.__name__: distance(recording, made) for distance in (log_mel_db, rave_distance, visqol, gain_db)}


# Sounds


def split(folder: Path, held_out: str, learned: Path) -> np.ndarray:
    """Writes all recordings but one to `learned` as WAV files. Returns the part of that one that is measured."""
    paths = {path: path.name.startswith(held_out) for path in (folder / source.file for source in scan(folder).files)}
    if list(paths.values()).count(True) != 1 or len(paths) == 1:
        raise SystemExit(f"--held-out is {held_out}: the name of exactly one of several recordings must begin with it")
    learned.mkdir()
    for index, path in enumerate(path for path, held in paths.items() if not held):
        files.write(learned / f"{index:03d}-{path.stem}.wav", files.read(path, RATE)[0], RATE)
    (held,) = (path for path, held in paths.items() if held)
    recording = (
        np.round(files.read(held, RATE)[0] * 32_768).clip(-32_768, 32_767).astype(np.float32) / 32_768
    )  # as they learn
    if len(recording) < LAST * RATE:
        raise SystemExit(f"{held.name} has {len(recording) / RATE:.1f} seconds: hold out one of at least {LAST}")
    return recording[FIRST * RATE : LAST * RATE]


# wavesynth, in processes of one core


def begin(core: int) -> None:
    """Confines a new process to a core, before JAX starts one thread for each core that it may use."""
    os.sched_setaffinity(0, {core})
    jax.config.update("jax_platforms", "cpu")
    keep_freed_memory()  # as the command line does


def train_wavesynth(shards: Path, run: Path, minutes: float) -> None:
    wavesynth.train(shards, run, wavesynth.preset(PRESET), minutes=minutes, progress=False)


def reconstruct_wavesynth(run: Path, sound: np.ndarray, repeats: int) -> Reconstruction:
    synth = wavesynth.load(run)
    decoded = synth.decode(synth.encode(sound))
    seconds = interleaved({"both": lambda: synth.decode(synth.encode(sound))}, repeats)["both"].median
    return Reconstruction(decoded, config_of(run).training.steps, synth.num_parameters, seconds)


# RAVE, in its own environment


class Rave:
    """RAVE in another environment, on one core, with one thread. Its files and logs go to a folder."""

    def __init__(self, venv: Path, folder: Path, core: int) -> None:
        missing = [name for name in ("ffmpeg", "ffprobe") if shutil.which(name) is None]
        if missing:
            raise SystemExit(f"{' and '.join(missing)} is missing, and RAVE waits for ever without: install ffmpeg")
        if not (venv / "bin" / "rave").exists():
            raise SystemExit(
                f"--rave-venv is {venv}, which has no bin/rave: `python bench/rave.py --help` says how to install it"
            )
        self._bin, self._folder, self._core = (venv / "bin").absolute(), folder, core
        self._folder.mkdir()
        (self._folder / "peer.py").write_text(PEER)

    def preprocess(self, sounds: Path) -> None:
        arguments = ["--input_path", sounds, "--output_path", self._folder / "sounds", "--channels", "1"]
        with self._started("preprocess", [self._bin / "rave", "preprocess", *arguments]) as process:
            self._check("preprocess", process.wait())

    @contextlib.contextmanager
    def training(self, minutes: list[float]) -> Iterator[subprocess.Popen]:
        """Trains until the block ends."""
        flags = {"name": "rave", "db_path": self._folder / "sounds", "out_path": self._folder, "config": RAVE_CONFIG}
        flags |= {"channels": 1, "workers": 0, "gpu": -1, "progress": False}
        given = [f"--{name}={value}" for name, value in flags.items()]
        with self._peer("train", folder=str(self._folder), minutes=minutes, flags=given) as process:
            yield process

    def check_training(self, process: subprocess.Popen) -> None:
        if (status := process.poll()) is not None:
            self._check("train", status or 1)

    def checkpoint(self, minutes: float) -> Path:
        return self._folder / f"{minutes:g}.ckpt"

    def reconstruct(self, minutes: float, sound: Path, repeats: int) -> Reconstruction:
        decoded, facts = (self.checkpoint(minutes).with_suffix(suffix) for suffix in (".wav", ".json"))
        paths = {"checkpoint": self.checkpoint(minutes), "sound": sound, "decoded": decoded, "facts": facts}
        texts = {name: str(path) for name, path in paths.items()}
        with self._peer("reconstruct", **texts, config=RAVE_CONFIG, repeats=repeats) as process:
            self._check("reconstruct", process.wait())
        return Reconstruction(soundfile.read(decoded, dtype="float32")[0], **json.loads(facts.read_text()))

    def _peer(self, task: str, **arguments: Any) -> contextlib.AbstractContextManager[subprocess.Popen]:
        return self._started(task, [self._bin / "python", self._folder / "peer.py", task, json.dumps(arguments)])

    @contextlib.contextmanager
    def _started(self, task: str, command: list[Any]) -> Iterator[subprocess.Popen]:
        """A process that ends with the block at the latest."""
        # What `keep_freed_memory` sets, by glibc's environment variables.
        memory = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
        environment = os.environ | memory | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)  # it belongs to this environment
        with (self._folder / f"{task}.log").open("w") as log:
            process = subprocess.Popen(
                ["taskset", "-c", str(self._core), *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self._folder, env=environment,
            )  # fmt: skip
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def _check(self, task: str, status: int) -> None:
        if status:
            lines = (self._folder / f"{task}.log").read_text(errors="replace").splitlines()
            raise SystemExit(
                "\n".join([*lines[-20:], f"RAVE's {task} failed with status {status}; above are its last lines"])
            )


def train(pool: Pool, rave: Rave, shards: Path, minutes: list[float]) -> None:
    """Trains both at once, on different cores."""
    with rave.training(minutes) as process:
        for each in minutes:
            run = pool.apply_async(train_wavesynth, (shards, shards.parent / f"wavesynth-{each:g}", each))
            while not run.ready():
                rave.check_training(process)
                run.wait(1)
            run.get()
            print(f"wavesynth: trained for {each:g} minutes", flush=True)
        while not rave.checkpoint(minutes[-1]).exists():
            rave.check_training(process)
            time.sleep(1)


def measured(
    pool: Pool, rave: Rave, work: Path, minutes: list[float], recording: np.ndarray, repeats: int
) -> list[Row]:
    """The rows, after the training. Keeps the reconstructions as WAV files."""
    sound = work / "recording.wav"
    soundfile.write(sound, recording, RATE, subtype="FLOAT")
    rows: list[Row] = []
    for each in minutes:
        run = work / f"wavesynth-{each:g}"
        ours = pool.apply(reconstruct_wavesynth, (run, recording, repeats))
        soundfile.write(work / f"{run.name}.wav", ours.sound, RATE, subtype="FLOAT")
        theirs = rave.reconstruct(each, sound, repeats)
        for names, made in ((("wavesynth", PRESET), ours), (("rave", RAVE_CONFIG), theirs)):
            row: Row = {"what": "reconstruction", "implementation": names[0], "model": names[1], "minutes": each}
            row |= {"steps": made.steps, "weights": made.weights, "seconds": made.seconds}
            rows.append(row | {"real_time_factor": (LAST - FIRST) / made.seconds} | metrics(recording, made.sound))
    silence = metrics(recording, np.zeros_like(recording))
    return [*rows, {"what": "silence", "implementation": None, "model": None, **silence}]


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--rave-venv", type=Path, required=True, metavar="PATH", help="the environment of RAVE")
    parser.add_argument("--sounds", type=Path, required=True, metavar="FOLDER", help="the folder of recordings")
    parser.add_argument(
        "--held-out", default="bwv855", metavar="NAME", help="how the name of the recording to hold out begins"
    )
    parser.add_argument("--minutes", type=float, nargs="+", help="durations of training (5 25 60; quick: 2)")
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (5; quick: 1)")
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", help="a new folder that keeps models and reconstructions"
    )
    options = parser.parse_args()
    options.minutes = sorted(set(options.minutes or ((2.0,) if options.quick else (5.0, 25.0, 60.0))))
    options.repeats = options.repeats or (1 if options.quick else 5)
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        parser.error("this benchmark needs Linux and two cores")
    if not options.sounds.is_dir():
        parser.error(f"--sounds is {options.sounds}, which is no folder")
    if options.work is not None and options.work.exists():
        parser.error(f"--work is {options.work}, which exists: choose a new folder")
    return options


def main() -> None:
    options = parse()
    jax.config.update("jax_platforms", "cpu")
    rows: list[Row] = [machine()]
    own_core, rave_core, *_ = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        work = (options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))).absolute()
        work.mkdir(parents=True, exist_ok=True)
        rave = Rave(options.rave_venv, work / "rave", rave_core)
        recording = split(options.sounds, options.held_out, work / "sounds")
        print(wavesynth.prepare(work / "sounds", work / "shards", valid=0, test=0, progress=False), flush=True)
        rave.preprocess(work / "sounds")
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(spawn.Pool(1, begin, (own_core,), maxtasksperchild=1))
        train(pool, rave, work / "shards", options.minutes)
        rows += measured(pool, rave, work, options.minutes, recording, options.repeats)
    rows[1:] = [row | {"quick": options.quick} for row in rows[1:]]
    print_table(rows[1:], COLUMNS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
