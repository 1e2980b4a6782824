"""How fast a WaveNet trains: one step (forward, backward, optimiser) beside PyTorch's on the same model.

Both train the size of nv-wavenet (20 layers; 64, 256 and 256 channels; softmax over 256 mu-law codes; 868,352
multiply-adds a sample) in float32 on the same 2 x 8,192 targets. `wavesynth` is the step as the training loop runs it:
clipping, AdamW and the moving average of the weights included. It also computes the true left context of each window, one
receptive field, which is not counted. `pytorch` is `wavenet-vocoder` with Adam, padding with zeros; its codes are made
one-hot beforehand, which is not counted either.

share_of_limit: three times the forward multiply-adds of the targets alone, against the same number in one large matrix
product, measured in the same turns.
"""

from collections.abc import Callable

import jax
import numpy as np
from harness import (
    Row,
    arguments,
    has_pytorch,
    interleaved,
    machine,
    matrix_product,
    multiply_adds,
    print_table,
    shrunk,
    write_json,
)
from trainees import PIECES, PyTorch, Wavesynth, bound

from wavesynth.conditions import Conditions
from wavesynth.config import Config, TrainingConfig
from wavesynth.data.batches import Batch
from wavesynth.families import preset
from wavesynth.kernels.wavenet_decode.arg_specs import NV
from wavesynth.training.memory import keep_freed_memory

LIMIT = 2_048  # rows and columns of the matrix product that is the limit


def tones(rows: int, crop: int, context: int) -> Batch:
    """A batch of something tonal and noisy."""
    length = context + crop
    random, time = np.random.default_rng(0), np.arange(length) / PIECES.sample_rate
    tone = np.sin(2 * np.pi * random.uniform(100, 400, (rows, 1)) * time)
    return {
        "samples": (0.3 * tone + random.normal(0, 0.02, (rows, length))).astype(np.float32)[:, None],
        "real": np.ones((rows, crop), bool),
        "conditions": Conditions.constant([-1] * rows, 0, [None] * rows),
        "start": np.zeros(rows, np.int32),
    }


def wavesynth_step(config: Config) -> Callable[[], float]:
    family = bound(config, PIECES)
    batch = tones(config.training.batch_size, family.crop(config.training), family.context)
    trainee = Wavesynth(family, config.training, family.init(jax.random.key(0), batch))
    inputs = trainee.inputs(batch)
    return lambda: trainee.step(inputs)


def pytorch_step(config: Config) -> Callable[[], float]:
    trainee = PyTorch(config.model)
    crop = bound(config, PIECES).crop(config.training)
    inputs = trainee.inputs(tones(config.training.batch_size, crop, trainee.context))
    return lambda: trainee.step(inputs)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (15; quick: 2)")
    keep_freed_memory()  # as the command line does; it holds for both implementations
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    seconds, repeats = (0.032, options.repeats or 2) if options.quick else (0.512, options.repeats or 15)

    nv = Config("wavenet", NV, TrainingConfig(batch_size=2, crop_seconds=seconds))
    small = preset("wavenet-small")
    if options.three_layers:
        nv, small = (
            Config(config.family, shrunk(config.model), TrainingConfig(batch_size=2, crop_seconds=seconds))
            for config in (nv, small)
        )
    measured = {"wavesynth, nv": nv, "wavesynth, wavenet-small": small}
    candidates = {name: wavesynth_step(config) for name, config in measured.items()}
    if has_pytorch():
        measured["pytorch, nv"] = nv
        candidates["pytorch, nv"] = pytorch_step(nv)
    timings = interleaved(candidates | {"limit": matrix_product(LIMIT, LIMIT)}, repeats)

    peak = LIMIT**3 / timings["limit"].median
    for name, config in measured.items():
        implementation, model = name.split(", ")
        training, timing = config.training, timings[name]
        crop = bound(config, PIECES).crop(training)
        targets = training.batch_size * crop
        rows.append({
            "what": "train_step", "implementation": implementation, "model": model + ", 3 layers" * options.three_layers,
            "dtype": config.model.dtype, "batch": training.batch_size, "crop": crop, "seconds": timing.median,
            "seconds_low": timing.low, "seconds_high": timing.high, "samples_per_second": targets / timing.median,
            "share_of_limit": 3 * multiply_adds(config.model) * targets / peak / timing.median, "repeats": repeats,
            "quick": options.quick,
        })  # fmt: skip
    columns = ("what", "implementation", "model", "dtype", "batch", "crop", "seconds", "seconds_low", "seconds_high")
    print_table(rows[1:], (*columns, "samples_per_second", "share_of_limit"))
    print(f"limit: a matrix product of {2 * peak / 1e9:,.0f} GFLOP/s in float32")
    if "pytorch, nv" in timings:
        ratio = timings["pytorch, nv"].median / timings["wavesynth, nv"].median
        print(f"wavesynth's step of nv is {ratio:.2f} times as fast as pytorch's")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
