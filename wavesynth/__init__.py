"""wavesynth turns a folder of audio into an instrument: train on it, sample wavs, morph between timbres.

>>> import wavesynth as ws
>>> synth = ws.train("sounds/", "runs/mine", ws.preset("wavenet-small"))
>>> audio = synth.sample(n=8, seconds=1.0, seed=0)
"""

import importlib
from typing import TYPE_CHECKING, Any

from wavesynth.config import VERSION as __version__

if TYPE_CHECKING:
    from wavesynth.api import load, train
    from wavesynth.data.prepare import prepare
    from wavesynth.errors import UserError
    from wavesynth.families import preset
    from wavesynth.judging import evaluate
    from wavesynth.song import render
    from wavesynth.synth import Synth
    from wavesynth.timbre.timbre import Timbre

# Where each public name lives. They are imported when first used, so that `wavesynth --help` does not wait for JAX.
_HOMES = {
    "Synth": "wavesynth.synth",
    "Timbre": "wavesynth.timbre.timbre",
    "UserError": "wavesynth.errors",
    "evaluate": "wavesynth.judging",
    "load": "wavesynth.api",
    "prepare": "wavesynth.data.prepare",
    "preset": "wavesynth.families",
    "render": "wavesynth.song",
    "train": "wavesynth.api",
}

__all__ = ["Synth", "Timbre", "UserError", "__version__", "evaluate", "load", "prepare", "preset", "render", "train"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'wavesynth' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
