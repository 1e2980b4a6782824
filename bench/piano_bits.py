"""How well a WaveNet predicts music after some minutes of training: bits per sample of held-out recordings.

Trains on all sounds of FOLDER except the held-out ones, and scores the first seconds of each held-out sound, from its first
sample, in the bins of the 256 mu-law codes: the mean negative log2 probability, at 16 kHz.

wavesynth   the preset wavenet-small as it is, with the noise that it adds to its sounds, which costs bits and improves
            sampling (--noise 0 trains without). The moving average of the weights is scored.
pytorch     `wavenet-vocoder` at the size of nv-wavenet (20 layers; 64, 256 and 256 channels; softmax over mu-law codes),
            Adam at 1e-3, 2 x 8,192 samples a step, padding with zeros; scored with one receptive field of true context.

Compilation is not counted: the clock starts after the first step, and stops while a mark is scored and saved. The library's
learning rate decays along a cosine of the steps, not of time. --steps sets their number; by default, as many as a short
trial says will fit in --minutes. So an intermediate mark is not what a training of that length would reach: for 10 minutes,
use --minutes 10. A training that finishes its steps early is scored at its end; `minutes` gives the time.

bits                    the model's context is the one it was trained with: 16-bit samples for wavesynth and the linear
                        prediction, mu-law codes for pytorch.
bits_from_mulaw_past    the same weights, with only the mu-law codes of the context. A model trained on 16-bit samples relies on
                        details that the codes lack, the more the longer it is trained: `--quantization mulaw` trains one
                        without them. The linear prediction is fitted to codes here.
"""

import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Row, arguments, has_pytorch, machine, print_table, shrunk, write_json
from trainees import PyTorch, Wavesynth, bound

from wavesynth.audio import files, mulaw
from wavesynth.config import TrainingConfig
from wavesynth.data.batches import Batch, Batches, mono, prefetch
from wavesynth.data.corpus import scan
from wavesynth.data.info import dataset_info
from wavesynth.data.prepare import prepare
from wavesynth.data.shards import Shards
from wavesynth.evaluation.baselines import baselines
from wavesynth.families import preset
from wavesynth.kernels.wavenet_decode.arg_specs import NV
from wavesynth.runs import Run
from wavesynth.training.loop import Clock
from wavesynth.training.memory import keep_freed_memory

SAMPLE_RATE = 16_000
COLUMNS = ("implementation", "model", "minutes", "steps", "bits", "bits_from_mulaw_past", "samples_per_second")
NOTE = """bits: wavesynth and the linear prediction have 16-bit samples as context, pytorch has mu-law codes.
bits from mulaw past: the same weights with only the mu-law codes as context (to train a model on those, use
--quantization mulaw); the linear prediction is fitted to codes."""


def through_mulaw(samples: np.ndarray) -> np.ndarray:
    return np.asarray(mulaw.decode(mulaw.encode(jnp.asarray(samples))))


@dataclasses.dataclass(frozen=True)
class MulawPast:
    """Windows reduced to mu-law codes."""

    batches: Batches

    def batch(self, step: int) -> Batch:
        batch = self.batches.batch(step)
        return batch | {"samples": through_mulaw(batch["samples"])}

    def held_out(self) -> Iterator[Batch]:
        for batch in self.batches.held_out():
            yield batch | {"samples": through_mulaw(batch["samples"])}


def split(folder: Path, words: list[str], seconds: float, work: Path) -> tuple[Shards, Shards]:
    """Shards of the training sounds, and of the first seconds of each file whose path contains one of the words."""
    learned, scored = work / "learned", work / "scored"
    for source in scan(folder).files:
        path = folder.absolute() / source.file
        if any(word in source.file for word in words):
            scored.mkdir(exist_ok=True)
            beginning = files.read(path, SAMPLE_RATE)[0, : round(seconds * SAMPLE_RATE)]
            files.write(scored / f"{source.file.replace('/', '-')}.wav", beginning, SAMPLE_RATE)
        else:
            (learned / source.file).parent.mkdir(parents=True, exist_ok=True)
            (learned / source.file).symlink_to(path)
    if not (learned.exists() and scored.exists()):
        raise SystemExit(f"--held-out is {' '.join(words)}: it must be part of the paths of some sounds, not of all")
    for part in (learned, scored):
        print(prepare(part, f"{part}-shards", sample_rate=SAMPLE_RATE, valid=0, test=0, progress=False), flush=True)
    return Shards.open(f"{learned}-shards"), Shards.open(f"{scored}-shards")


def trial(trainee: Any, batches: Batches, seconds: float) -> float:
    """Steps per second, without the first one. The trained weights are discarded."""
    steps = prefetch(batches, 0, 1_000_000)
    trainee.step(trainee.inputs(next(steps)))
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        trainee.step(trainee.inputs(next(steps)))
        count += 1
    return count / (time.perf_counter() - began)


def train(
    trainee: Any, batches: Batches, steps: int, marks: list[float], reached: Callable[[float, int], None]
) -> None:
    """Takes steps until they or the marks (minutes, ascending) are over; calls reached(minutes, steps) at each mark."""
    clock = Clock(0.0)
    for count, batch in enumerate(prefetch(batches, 0, steps), start=1):
        if not math.isfinite(trainee.step(trainee.inputs(batch))):
            raise SystemExit(f"the loss of step {count} is not a finite number")
        if count == 1:
            clock = Clock(0.0)
        minutes = clock.total / 60
        if minutes >= marks[0] or count == steps:
            with clock.paused():
                reached(minutes, count)
            marks = [mark for mark in marks if mark > minutes]
        if not marks:
            return


def main() -> None:
    keep_freed_memory()  # as the command line does
    options = parse()
    rows: list[Row] = [machine()]
    with tempfile.TemporaryDirectory() as work:
        learned, scored = split(options.folder, options.held_out, options.seconds, Path(work))
        clips = [mono(scored[index]["samples"]) for index in range(len(scored))]

        def add(implementation: str, model: str, score: Callable[[np.ndarray], float], **more: Any) -> None:
            mean = [np.average([score(view(clip)) for clip in clips], weights=[len(clip) for clip in clips])
                    for view in (np.asarray, through_mulaw)]  # fmt: skip
            add_row(implementation, model, bits=float(mean[0]), bits_from_mulaw_past=float(mean[1]), **more)

        def add_row(implementation: str, model: str, **metrics: Any) -> None:
            rows.append({"what": "bits_per_sample", "implementation": implementation, "model": model, **metrics})
            rows[-1] |= {"schedule_minutes": options.minutes, "scored_seconds": scored.seconds, "quick": options.quick}
            write_json(options.json, rows)
            print(", ".join(f"{name} {value}" for name, value in rows[-1].items() if name != "what"), flush=True)

        wavesynth(options, learned, scored, add, add_row)
        if options.implementation != "wavesynth" and has_pytorch():
            pytorch(options, learned, add)
    print_table(rows[1:], COLUMNS)
    print(NOTE)


def wavesynth(options: Any, learned: Shards, scored: Shards, add: Callable, add_row: Callable) -> None:
    """The baselines and, unless only pytorch is measured, the library's own training."""
    config = preset("wavenet-small")
    training, model = config.training, dataclasses.replace(config.model, quantization=options.quantization)
    if options.three_layers:
        training, model = TrainingConfig(batch_size=2, crop_seconds=0.032), shrunk(model)
    family = bound(dataclasses.replace(config, model=model), dataset_info(learned))
    windows = (family.crop(training), family.context, training.seed)
    batches = Batches(learned, "train", training.batch_size, *windows, align=family.align)
    noise = training.noise if options.noise is None else options.noise
    batches = dataclasses.replace(batches, noise=noise * batches.level)
    held_out = Batches(scored, "train", training.batch_size, *windows, align=family.align, limit=1_000_000)
    from_codes = baselines(MulawPast(batches), MulawPast(held_out), "mulaw")
    for name, bits in baselines(batches, held_out, "mulaw").items():
        add_row(name, "baseline", bits=bits, bits_from_mulaw_past=from_codes[name])
    if options.implementation == "pytorch":
        return

    first = family.init(jax.random.key(training.seed), dataclasses.replace(batches, batch_size=64).batch(0))
    steps = options.steps
    if steps is None:
        rate = trial(Wavesynth(family, training, first), batches, seconds=20.0)
        steps = max(1, int(rate * 60 * options.minutes))
        print(f"wavesynth: {rate:.2f} steps a second, so {steps:,} steps", flush=True)
    training = dataclasses.replace(training, steps=steps)
    trainee = Wavesynth(family, training, first)
    if options.save:
        options.save.mkdir(parents=True)
        Run(options.save).write_config(family, training)

    def reached(minutes: float, steps: int) -> None:
        speed = (steps - 1) * training.batch_size * batches.crop / (60 * minutes)
        name = f"wavenet-{'small, 3 layers' if options.three_layers else 'small'}, {options.quantization}"
        add("wavesynth", name, trainee.bits, minutes=minutes, steps=steps, samples_per_second=speed)
        if options.save:
            Run(options.save).publish(trainee.state.ema, {"step": steps})

    train(trainee, batches, training.steps, options.at, reached)


def pytorch(options: Any, learned: Shards, add: Callable) -> None:
    trainee = PyTorch(shrunk(NV) if options.three_layers else NV)
    batches = Batches(learned, "train", batch_size=2, crop=512 if options.quick else 8_192, context=1, seed=0)

    def reached(minutes: float, steps: int) -> None:
        speed = (steps - 1) * batches.batch_size * batches.crop / (60 * minutes)
        add(
            "pytorch",
            "nv, 3 layers" if options.three_layers else "nv",
            trainee.bits,
            minutes=minutes,
            steps=steps,
            samples_per_second=speed,
        )

    train(trainee, batches, 10_000_000, options.at, reached)


def parse() -> Any:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, help="the sounds, as `wavesynth prepare` takes them")
    parser.add_argument("--held-out", nargs="+", required=True, help="parts of the paths of the sounds to score")
    parser.add_argument("--minutes", type=float, default=20.0, help="of training, for each implementation (20)")
    parser.add_argument("--at", nargs="+", type=float, default=[], help="earlier minutes to score at too")
    parser.add_argument("--seconds", type=float, default=20.0, help="how much of each held-out sound is scored (20)")
    parser.add_argument("--steps", type=int, help="of wavesynth's learning rate schedule, and at most to take")
    parser.add_argument("--implementation", choices=("wavesynth", "pytorch", "both"), default="both")
    parser.add_argument(
        "--quantization", choices=("int16", "mulaw"), default="int16", help="of wavesynth's past and bins"
    )
    parser.add_argument(
        "--noise", type=float, help="added to what wavesynth learns, as a share of its level (left out: the preset's)"
    )
    parser.add_argument("--save", type=Path, metavar="RUN", help="where wavesynth's weights go, for `wavesynth.load`")
    options = parser.parse_args()
    if options.save and options.save.exists():
        parser.error(f"--save is {options.save}, which exists: choose a new folder")
    if options.quick:
        options.minutes, options.at, options.seconds, options.steps = 0.05, [0.01], 1.0, 20
    options.at = sorted({minutes for minutes in options.at if minutes < options.minutes} | {options.minutes})
    return options


if __name__ == "__main__":
    main()
