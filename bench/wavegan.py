"""Speed of training and generating with a WaveGAN: the published networks in wavesynth and in PyTorch, and the presets.

- discriminator_step: one step of the discriminator with gradient penalty (WGAN-GP), including the generated sounds.
- generator_step: one step of the generator.
- generate: eight sounds of one second by the presets. real_time is seconds of sound per second.

Both steps use the published architecture with 32 channels and 16,384 samples, phase shuffle and Adam, batch 8, float32. In
wavesynth they are the steps of the training loop, with moving averages and metrics.

share_of_limit: the multiply-adds of the convolutions per second, over those of a large matrix product timed in turn with them.
A discriminator step counts eleven passes of the discriminator (three forward; three backward by the weights and one by the
input; four for the second derivative of the penalty) and one of the generator; a generator step three of each.

--quick takes one repeat, of the same shapes.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import Row, arguments, has_pytorch, interleaved, machine, matrix_product, print_table, write_json
from trainees import bound

from wavesynth.conditions import Conditions
from wavesynth.config import Config, DatasetInfo
from wavesynth.data.batches import Batch
from wavesynth.families import Request, preset
from wavesynth.models.wavegan import WaveGANConfig
from wavesynth.training.memory import keep_freed_memory

LIMIT = 2_048  # rows and columns of the matrix product that is the limit
ONE_SHOTS = DatasetInfo(sample_rate=16_000, clip_seconds=1.0)
GENERATED = 8  # sounds at once
PRESETS = ("wavegan-tiny", "wavegan-small")


def nothing(rows: int) -> Conditions:
    """No label and no pitch."""
    return Conditions.constant([-1] * rows, 0, [None] * rows)


def noises(rows: int, length: int) -> Batch:
    """A batch of decaying noise, without labels."""
    random = np.random.default_rng(0)
    sounds = random.normal(0, 0.1, (rows, length)) * np.exp(-np.arange(length) / (length / 8))
    return {
        "samples": sounds.astype(np.float32)[:, None],
        "real": np.ones((rows, length), bool),
        "conditions": nothing(rows),
        "start": np.zeros(rows, np.int32),
    }


def published(channels: int, seconds: float, batch: int) -> Config:
    config = preset("wavegan-paper")
    model = replace(config.model, channels=channels, discriminator_channels=channels, seconds=seconds)
    return replace(config, model=model, training=replace(config.training, batch_size=batch, discriminator_steps=1))


def wavesynth_steps(config: Config) -> dict[str, Callable[[], Any]]:
    family = bound(config, ONE_SHOTS)
    batch = jax.tree.map(jnp.asarray, noises(config.training.batch_size, family.length))
    objective = family.objective(config.training)
    state = objective.init(family.init(jax.random.key(0), batch))
    key = jax.random.key(1)

    def runner(step: Callable) -> Callable[[], Any]:
        compiled, held = jax.jit(step, donate_argnums=0), [jax.tree.map(jnp.copy, state)]

        def run() -> None:
            held[0], metrics = compiled(held[0], batch, key)
            jax.block_until_ready((held[0], metrics))

        return run

    return {
        "discriminator_step": runner(objective.discriminator_step),
        "generator_step": runner(objective.generator_step),
    }


def wavesynth_generate(config: Config) -> Callable[[], Any]:
    family = bound(config, ONE_SHOTS)
    params = family.published(family.init(jax.random.key(0), noises(1, family.length)))
    return lambda: next(family.generate(params, nothing(GENERATED), Request()))


def pytorch_steps(model: WaveGANConfig, batch: int) -> dict[str, Callable[[], Any]]:
    """The same networks and steps in ordinary PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    channels = [*model.stage_channels, 1]
    frames = model.length // model.hop

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Linear(model.latent, frames * channels[0])
            pairs = pairwise(channels)
            self.stages = nn.ModuleList(nn.ConvTranspose1d(i, o, 25, 4, 11, output_padding=1) for i, o in pairs)

        def forward(self, latent: torch.Tensor) -> torch.Tensor:
            x = self.front(latent).view(len(latent), channels[0], frames)
            for stage in self.stages:
                x = stage(functional.relu(x))
            return torch.tanh(x)

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = channels[::-1]
            pairs = pairwise(widths)
            self.layers = nn.ModuleList(nn.Conv1d(i, o, 25, 4, 11) for i, o in pairs)
            self.last = nn.Linear(frames * widths[-1], 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for index, layer in enumerate(self.layers):
                if index and model.phase_shuffle:
                    x = shuffled(x)
                x = functional.leaky_relu(layer(x), 0.2)
            return self.last(x.flatten(1))

    def shuffled(x: torch.Tensor) -> torch.Tensor:
        most = model.phase_shuffle
        padded = functional.pad(x, (most, most), mode="reflect")
        shifts = torch.randint(0, 2 * most + 1, (len(x),))
        return torch.stack(
            [row[:, shift : shift + x.shape[2]] for row, shift in zip(padded, shifts.tolist(), strict=True)]
        )

    generator, discriminator = Generator(), Discriminator()
    optimizers = [torch.optim.Adam(side.parameters(), lr=1e-4, betas=(0.5, 0.9)) for side in (generator, discriminator)]
    real = torch.from_numpy(noises(batch, model.length)["samples"])

    def learn(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def discriminator_step() -> None:
        generated = generator(torch.randn(batch, model.latent)).detach()
        share = torch.rand(batch, 1, 1)
        between = (share * real + (1 - share) * generated).requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(between).sum(), between, create_graph=True)
        penalty = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        learn(discriminator(generated).mean() - discriminator(real).mean() + 10 * penalty, optimizers[1])

    def generator_step() -> None:
        learn(-discriminator(generator(torch.randn(batch, model.latent))).mean(), optimizers[0])

    return {"discriminator_step": discriminator_step, "generator_step": generator_step}


def multiply_adds(model: WaveGANConfig) -> int:
    """Of one pass of the published generator's convolutions for one sound; the discriminator has as many."""
    channels, places, total = (*model.stage_channels, 1), model.length // model.hop, 0
    for index, stride in enumerate(model.strides):
        total += places * channels[index] * channels[index + 1] * model.kernel_width
        places *= stride
    return total


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repeats", type=int, help="runs of each, for the median (15; quick: 1)")
    keep_freed_memory()  # as the command line does; for both implementations
    options = parser.parse_args()
    rows: list[Row] = [machine()]
    channels, seconds, batch = 32, 1.024, 8
    repeats = options.repeats or (1 if options.quick else 15)

    config = published(channels, seconds, batch)
    model = bound(config, ONE_SHOTS).model
    candidates = {("wavesynth", name): step for name, step in wavesynth_steps(config).items()}
    if has_pytorch():
        candidates |= {("pytorch", name): step for name, step in pytorch_steps(model, batch).items()}
    makers = {name: replace(preset(name), model=replace(preset(name).model, seconds=seconds)) for name in PRESETS}
    candidates |= {("wavesynth", name): wavesynth_generate(maker) for name, maker in makers.items()}
    timings = interleaved(
        {" ".join(name): run for name, run in candidates.items()} | {"limit": matrix_product(LIMIT, LIMIT)}, repeats
    )

    peak = LIMIT**3 / timings["limit"].median
    passes = {"discriminator_step": 12, "generator_step": 6}
    for implementation, name in candidates:
        timing = timings[f"{implementation} {name}"]
        row: Row = {
            "what": name if name in passes else "generate", "implementation": implementation,
            "model": f"published, {channels} channels" if name in passes else name, "dtype": "float32",
            "batch": batch if name in passes else GENERATED, "seconds": timing.median, "seconds_low": timing.low,
            "seconds_high": timing.high, "repeats": repeats, "quick": options.quick,
        }  # fmt: skip
        if name in passes:
            row["share_of_limit"] = passes[name] * batch * multiply_adds(model) / peak / timing.median
        else:
            row["real_time"] = GENERATED * bound(makers[name], ONE_SHOTS).length / 16_000 / timing.median
            row["samples_per_second"] = 16_000 * row["real_time"]
        rows.append(row)
    columns = ("what", "implementation", "model", "batch", "seconds", "seconds_low", "seconds_high")
    print_table(rows[1:], (*columns, "share_of_limit", "real_time"))
    print(f"limit: a matrix product of {2 * peak / 1e9:,.0f} GFLOP/s in float32")
    if has_pytorch():
        both = [sum(timings[f"{side} {name}"].median for name in passes) for side in ("pytorch", "wavesynth")]
        print(f"both steps together are {both[0] / both[1]:.2f} times as fast as pytorch's")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()
