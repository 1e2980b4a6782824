"""The commands. Each takes its flags from the Python functions that it calls."""

from wavesynth.commands.learning import demo, evaluate, info, prepare, score, train
from wavesynth.commands.making import decode, encode, glide, grid, morph, render, sample

COMMANDS = {
    "prepare": prepare, "train": train, "sample": sample, "encode": encode, "decode": decode, "morph": morph, "grid": grid,
    "glide": glide, "render": render, "score": score, "evaluate": evaluate, "info": info, "demo": demo,
}  # fmt: skip
