"""The axes that annotations name are those that arrays have: every public function of the models, traced and typechecked."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from beartype import BeartypeConf, beartype
from flax import nnx
from jaxtyping import jaxtyped

import wavesynth.models
from wavesynth.models.autoencoder import Autoencoder, AutoencoderConfig, Probe
from wavesynth.models.classifier import Classifier, ClassifierConfig
from wavesynth.models.discriminators import Discriminators, DiscriminatorsConfig, views
from wavesynth.models.wavegan import Generator, WaveGANConfig
from wavesynth.models.wavenet import WaveNet, WaveNetConfig
from wavesynth.models.wavenet_autoencoder import Encoder, WaveNetAutoencoderConfig

MODULES = [
    importlib.import_module(f"wavesynth.models.{info.name}") for info in pkgutil.iter_modules(wavesynth.models.__path__)
]
TYPECHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as in PEP 484
WAVENET = dict(stacks=1, layers_per_stack=2, channels=4, skip_channels=4, head_channels=4, taps=4, hop_length=8)


@pytest.fixture(autouse=True)
def typechecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wraps every annotated function and method of the models, wherever its name is used."""
    wrapped: dict[int, Callable] = {}

    def wrap(owner: ModuleType | type, name: str, function: Any) -> None:
        plain = isinstance(function, FunctionType) and function.__module__.startswith("wavesynth.models")
        if plain and any("jaxtyping" in str(hint) for hint in inspect.get_annotations(function).values()):
            wrapped.setdefault(id(function), jaxtyped(typechecker=TYPECHECKER)(function))
            monkeypatch.setattr(owner, name, wrapped[id(function)])

    for module in MODULES:
        for name, value in [*vars(module).items()]:
            wrap(module, name, value)
            if inspect.isclass(value) and issubclass(value, nnx.Module) and value.__module__ == module.__name__:
                for method, function in [*vars(value).items()]:
                    wrap(value, method, function)
    assert len(wrapped) > 25


def shape(function: Callable, *arguments: Any) -> Any:
    """The shapes that a function returns, traced without being computed."""
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(function, *arguments))


def sounds(length: int) -> jax.Array:
    return jnp.zeros((2, length))


KEY, PITCH = jax.random.key(0), jnp.array([60.0, jnp.nan])
KEYS = jax.random.split(KEY, 2)


@pytest.mark.parametrize("output", ["mixture", "softmax"])
def test_wavenet(output: Any):
    quantization: Any = "int16" if output == "mixture" else "mulaw"
    config = WaveNetConfig(
        **WAVENET, output=output, quantization=quantization, vector_channels=3, frame_channels=5, longest_period=20
    )
    samples, frames = sounds(config.receptive_field + 16), jnp.zeros((2, config.context_frames + 2, 5))
    periods = jnp.array([10, 0], jnp.int32)
    made = shape(lambda *given: WaveNet(config, rngs=nnx.Rngs(0))(*given), samples, jnp.zeros((2, 3)), frames, periods)
    assert made == (2, 16, config.likelihood.width)
    assert shape(lambda *given: config.likelihood.log_prob(*given), jnp.zeros((2, 16, made[-1])), sounds(16)) == (2, 16)


def test_wavenet_autoencoder():
    config = WaveNetAutoencoderConfig(**WAVENET, code_hop=16, encoder_stride=4, encoder_channels=4, encoder_layers=2)
    samples = sounds(2 * config.encoder_reach + 3 * config.code_hop)
    assert shape(lambda given: Encoder(config, rngs=nnx.Rngs(0))(given), samples) == (2, 3, config.code_channels)


@pytest.mark.parametrize("audio", [1, 2])
def test_autoencoder(audio: int):
    config = AutoencoderConfig(
        hop_seconds=0.002, overlap=2, gains=2, encoder_channels=4, encoder_dilations=(1, 2), channels=6, dilations=(1,),
        pitches=128, code_channels=16, sample_rate=8_000, audio_channels=audio,
    )  # fmt: skip
    made = shape(lambda given: Autoencoder(config, rngs=nnx.Rngs(0)).encoder(given), jnp.zeros((2, audio, 192)))
    assert made == ((2, 3, 17), (2, 3, 16))
    codes = jnp.zeros((2, 3, 17))
    decoded = shape(lambda *given: Autoencoder(config, rngs=nnx.Rngs(0)).decoder(*given), codes, PITCH, KEYS)
    assert decoded == (2, audio, 192)
    assert shape(lambda given: Probe(config, rngs=nnx.Rngs(0))(given), codes[..., :16]) == (2, 3, 128)


@pytest.mark.parametrize("audio", [1, 2])
def test_wavegan_and_its_discriminators(audio: int):
    config = WaveGANConfig(
        length=64, strides=(4, 4), channels=4, latent=3, style_channels=5, pitch_channels=12, sample_rate=8_000,
        audio_channels=audio,
    )  # fmt: skip

    def made(latent: jax.Array, condition: jax.Array, pitch: jax.Array, keys: jax.Array) -> jax.Array:
        generator = Generator(config, rngs=nnx.Rngs(0))
        return generator(generator.style(latent, condition), pitch, keys)

    assert shape(made, jnp.zeros((2, 3)), jnp.zeros((2, 12)), PITCH, KEYS) == (2, audio, 64)
    judges = DiscriminatorsConfig(
        4, phase_shuffle=1, periods=(2, 3), spectral_windows=(0.002,), spectral_channels=4, audio_channels=audio,
        sample_rate=8_000,
    )  # fmt: skip

    def logits(given: jax.Array, condition: jax.Array) -> jax.Array:
        return Discriminators(judges, 64, 12, rngs=nnx.Rngs(0))(views(judges, given), condition, KEY)

    assert shape(logits, jnp.zeros((2, audio, 64)), jnp.zeros((2, 12))) == (2, 4)


def test_classifier():
    config = ClassifierConfig(bands=8, channels=4, layers=2, features=3, labels=5, sample_rate=8_000)
    assert shape(lambda given: Classifier(config, rngs=nnx.Rngs(0))(given), sounds(1_000)) == (2, 5)
