"""wavesynth turns a folder of audio into an instrument: train on it, sample wavs, morph between timbres.

>>> import wavesynth as ws
>>> synth = ws.train("sounds/", "runs/new", ws.preset("wavenet-small"))         # doctest: +SKIP
>>> audio = ws.load("checkpoints/instruments").sample(n=8, seconds=1.0, seed=0)
"""

import importlib
from typing import TYPE_CHECKING, Any

from wavesynth.config import VERSION as __version__

if TYPE_CHECKING:
    from wavesynth.api import load, train
    from wavesynth.conditions import Curve
    from wavesynth.config import Config, TrainingConfig
    from wavesynth.data.prepare import prepare
    from wavesynth.errors import UserError
    from wavesynth.evaluation.directions import directions
    from wavesynth.evaluation.neighbours import nearest
    from wavesynth.families import preset
    from wavesynth.judging import evaluate, score_files
    from wavesynth.models.autoencoder import AutoencoderConfig
    from wavesynth.models.classifier import ClassifierConfig
    from wavesynth.models.wavegan import WaveGANConfig
    from wavesynth.models.wavenet import WaveNetConfig
    from wavesynth.models.wavenet_autoencoder import WaveNetAutoencoderConfig
    from wavesynth.sampling.strategies import Strategy
    from wavesynth.song import render
    from wavesynth.synth import Synth
    from wavesynth.timbre.timbre import Timbre, lerp, mean, slerp
    from wavesynth.training.adversarial import AdversarialTraining
    from wavesynth.training.classification import ClassificationTraining
    from wavesynth.training.reconstruction import ReconstructionTraining

# Where each public name lives. They are imported when first used, so that `wavesynth --help` does not wait for JAX.
_HOMES = {
    "AdversarialTraining": "wavesynth.training.adversarial",
    "AutoencoderConfig": "wavesynth.models.autoencoder",
    "ClassificationTraining": "wavesynth.training.classification",
    "ClassifierConfig": "wavesynth.models.classifier",
    "Config": "wavesynth.config",
    "Curve": "wavesynth.conditions",
    "ReconstructionTraining": "wavesynth.training.reconstruction",
    "Strategy": "wavesynth.sampling.strategies",
    "Synth": "wavesynth.synth",
    "Timbre": "wavesynth.timbre.timbre",
    "TrainingConfig": "wavesynth.config",
    "UserError": "wavesynth.errors",
    "WaveGANConfig": "wavesynth.models.wavegan",
    "WaveNetAutoencoderConfig": "wavesynth.models.wavenet_autoencoder",
    "WaveNetConfig": "wavesynth.models.wavenet",
    "directions": "wavesynth.evaluation.directions",
    "evaluate": "wavesynth.judging",
    "lerp": "wavesynth.timbre.timbre",
    "load": "wavesynth.api",
    "mean": "wavesynth.timbre.timbre",
    "nearest": "wavesynth.evaluation.neighbours",
    "prepare": "wavesynth.data.prepare",
    "preset": "wavesynth.families",
    "render": "wavesynth.song",
    "score_files": "wavesynth.judging",
    "slerp": "wavesynth.timbre.timbre",
    "train": "wavesynth.api",
}

__all__ = [
    "AdversarialTraining",
    "AutoencoderConfig",
    "ClassificationTraining",
    "ClassifierConfig",
    "Config",
    "Curve",
    "ReconstructionTraining",
    "Strategy",
    "Synth",
    "Timbre",
    "TrainingConfig",
    "UserError",
    "WaveGANConfig",
    "WaveNetAutoencoderConfig",
    "WaveNetConfig",
    "__version__",
    "directions",
    "evaluate",
    "lerp",
    "load",
    "mean",
    "nearest",
    "prepare",
    "preset",
    "render",
    "score_files",
    "slerp",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wavesynth' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
