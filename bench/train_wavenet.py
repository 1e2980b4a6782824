"""How fast a WaveNet trains: one step (forward, backward, optimiser) beside PyTorch's on the same model.

Both train the size of nv-wavenet (20 layers; 64, 256 and 256 channels; softmax over 256 mu-law codes; 868,352
multiply-adds a sample) in float32 on the same 2 x 8,192 targets. `wavesynth` is the step as the training loop runs it:
clipping, AdamW and the moving average of the weights included. It also computes the true left context of each window, one
receptive field, which is not counted. `pytorch` is `wavenet-vocoder` with Adam, padding with zeros; its codes are made
one-hot beforehand, which is not counted either.

share_of_limit: three times the forward multiply-adds of the targets alone, against the same number in one large matrix
product, measured in the same turns.
"""

import dataclasses
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
    pytorch_wavenet,
    write_json,
)

from wavesynth.audio import mulaw
from wavesynth.config import Config, Material, TrainingConfig
from wavesynth.families import bind, family_type, preset
from wavesynth.kernels.wavenet_decode.arg_specs import NV
from wavesynth.training.loop import placement

MATERIAL = Material(sample_rate=16_000, clip_seconds=60.0)  # long pieces without labels
LIMIT = 2_048  # rows and columns of the matrix product that is the limit


def sounds(batch_size: int, length: int) -> np.ndarray:
    """Something tonal and noisy, float32 [B, T]."""
    random, time = np.random.default_rng(0), np.arange(length) / MATERIAL.sample_rate
    pitch = random.uniform(100, 400, (batch_size, 1))
    return (0.3 * np.sin(2 * np.pi * pitch * time) + random.normal(0, 0.02, (batch_size, length))).astype(np.float32)


def wavesynth_step(config: Config) -> Callable[[], float]:
    training = config.training
    family = bind(config.family, family_type(config.family).adapt(config.model, MATERIAL), MATERIAL)
    samples = sounds(training.batch_size, family.context + training.crop)
    batch = {
        "samples": samples,
        "real": np.ones((training.batch_size, training.crop), bool),
        "label": np.full(training.batch_size, -1, np.int32),
        "pitch": np.full(training.batch_size, np.nan, np.float32),
        "start": np.zeros(training.batch_size, np.int32),
    }
    objective, place = family.objective(training), placement(training.batch_size)
    step = jax.jit(objective.step, donate_argnums=0)
    state = place(objective.init(family.init(jax.random.key(0), samples)))

    def once() -> float:
        nonlocal state
        state, metrics = step(state, place(batch, batched=True))
        return {name: float(value) for name, value in metrics.items()}["bits"]

    return once


def pytorch_step(training: TrainingConfig) -> Callable[[], float]:
    import torch
    from torch.nn import functional

    model = pytorch_wavenet(NV)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    codes = torch.from_numpy(np.array(mulaw.encode(sounds(training.batch_size, training.crop + 1)), np.int64))
    past = functional.one_hot(codes[:, :-1], mulaw.CODES).float().transpose(1, 2).contiguous()

    def once() -> float:
        loss = functional.cross_entropy(model(past), codes[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return once


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, of which the median counts (15; quick: 2)")
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    crop, repeats = (512, options.repeats or 2) if options.quick else (8_192, options.repeats or 15)

    nv = Config("wavenet", NV, TrainingConfig(batch_size=2, crop=crop))
    small = preset("wavenet-small")
    if options.quick:
        small = dataclasses.replace(small, training=dataclasses.replace(small.training, crop=crop))
    measured = {"wavesynth, nv": nv, "wavesynth, wavenet-small": small}
    candidates = {name: wavesynth_step(config) for name, config in measured.items()}
    if has_pytorch():
        measured["pytorch, nv"] = nv
        candidates["pytorch, nv"] = pytorch_step(nv.training)
    timings = interleaved(candidates | {"limit": matrix_product(LIMIT, LIMIT)}, repeats)

    peak = LIMIT**3 / timings["limit"].median
    for name, config in measured.items():
        implementation, model = name.split(", ")
        targets, timing = config.training.batch_size * config.training.crop, timings[name]
        rows.append({
            "what": "train_step", "implementation": implementation, "model": model, "dtype": config.model.dtype,
            "batch": config.training.batch_size, "crop": config.training.crop, "seconds": timing.median,
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
