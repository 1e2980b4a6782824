"""Quality of a trained model's morphs, and of its encodings of recorded sounds.

    python bench/morphing.py RUN SHARDS [--pairs 20] [--encode 0] [--worst FOLDER]

Morphs: the metrics of `wavesynth.evaluation.morphing` for morphs of 17 steps, with the crossfade of the same ends for
comparison; medians and quartiles over pairs of timbres. An autoencoder morphs between held-out sounds of two labels and one
pitch, any other model between random latents of two labels (if it has labels). --worst writes pictures of the five pairs that
fail most gates.

Encoding, for models that search for latents (WaveGAN), of --encode held-out sounds:

- distance: the multi-resolution distance of the found sound from the recording, in dB.
- best_of_random: the smallest distance among 1,000 random latents.
- other_noise: the mean distance of sounds of the found timbre from each other, with different noise.
- repeatable: whether decoding twice gives the same bytes.

--quick takes two pairs and one sound, of the same model.
"""

import itertools
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from harness import Row, arguments, machine, print_table, shards_for, sound_of, write_json
from tqdm import tqdm

import wavesynth
from wavesynth import Synth, Timbre
from wavesynth.audio import pictures
from wavesynth.audio import pitch as pitches
from wavesynth.audio.spectral import multi_resolution_distance
from wavesynth.data.shards import ClipRecord, Shards
from wavesynth.evaluation.analysis import Analysis
from wavesynth.evaluation.morphing import GATES, MorphMetrics, crossfade, judge

STEPS = 17
RANDOM_LATENTS = 1_000
SECONDS = 1.0
NOISES = 4  # sounds per timbre, each with its own noise


def held_out(shards: Shards) -> list[int]:
    return [*shards.split("valid"), *shards.split("test")]


def pairs_of_sounds(synth: Synth, shards: Shards, count: int) -> list[tuple[str, Timbre, Timbre]]:
    """Pairs of held-out sounds of two labels and one pitch; all pairs of labels about equally often."""
    clips = [(clip, shards.clips[clip]) for clip in held_out(shards)]
    found = [
        (a, b) for a, b in itertools.combinations(clips, 2)
        if a[1].label != b[1].label and a[1].pitch == b[1].pitch
    ]  # fmt: skip
    np.random.default_rng(0).shuffle(found)  # type: ignore[arg-type]
    uses: Counter[frozenset] = Counter()
    rounds = []
    for a, b in found:
        labels = frozenset((a[1].label, b[1].label))
        rounds.append(uses[labels])
        uses[labels] += 1
    chosen = [found[index] for index in np.argsort(rounds, kind="stable")[:count]]

    def encoded(clip: int, record: ClipRecord) -> Timbre:
        sound = sound_of(shards, clip, synth.channels, round(SECONDS * synth.sample_rate))
        return synth.encode(sound, synth.sample_rate, pitch=record.pitch)

    return [(f"{a[1].file} - {b[1].file}", encoded(*a), encoded(*b)) for a, b in chosen]


def pairs_of_latents(synth: Synth, count: int) -> list[tuple[str, Timbre, Timbre]]:
    """Pairs of random latents, of two labels if the model has labels."""
    labels: list[str | None] = [*synth.labels] or [None]
    pairs = []
    for index in range(count):
        first, last = labels[index % len(labels)], labels[(index * 5 + 3) % len(labels)]
        if first == last and len(labels) > 1:
            last = labels[(index + 1) % len(labels)]
        a, b = synth.latents(2 * index, 1, first)[0], synth.latents(2 * index + 1, 1, last)[0]
        pairs.append((f"{first} - {last}", a, b))
    return pairs


def morph_rows(synth: Synth, shards: Shards, count: int, worst: Path | None) -> list[Row]:
    pairs = pairs_of_sounds(synth, shards, count) if synth.family.reconstructs else pairs_of_latents(synth, count)
    metrics: dict[str, list[MorphMetrics]] = {"morph": [], "crossfade": []}
    sounds = []
    track_pitch = synth.family.dataset.pitched and pitches.available()
    for _, a, b in tqdm(pairs, unit="pair"):
        morph = synth.morph_analysis(a, b, STEPS)
        faded = Analysis(crossfade(morph.sounds[0], morph.sounds[-1], STEPS), synth.sample_rate)
        sounds.append(morph.sounds)
        metrics["morph"].append(judge(morph, track_pitch=track_pitch))
        metrics["crossfade"].append(judge(faded, track_pitch=track_pitch))
    rows: list[Row] = []
    for name, found in metrics.items():
        for metric in GATES:
            values = [getattr(one, metric) for one in found]
            known = [value for value in values if value is not None]
            if known:
                low, median, high = np.percentile(known, [25, 50, 75])
                rows.append({
                    "what": "morph", "path": name, "metric": metric, "median": float(median), "low": float(low),
                    "high": float(high), "gate": str(GATES[metric]), "passes": GATES[metric].passes(float(median)),
                    "pairs": len(known),
                })  # fmt: skip
    if worst is not None and pictures.available():
        worst.mkdir(parents=True, exist_ok=True)
        order = sorted(range(len(pairs)), key=lambda index: -len(metrics["morph"][index].failed))[:5]
        for rank, index in enumerate(order, 1):
            failed = metrics["morph"][index].failed
            print(f"worst {rank}: {pairs[index][0]}: fails {', '.join(failed) or 'nothing'}")
            shown = {str(step): sounds[index][step] for step in range(0, STEPS, 2)}
            pictures.strip(worst / f"worst-{rank}.png", shown, synth.sample_rate)
    return rows


def encode_rows(synth: Synth, shards: Shards, count: int) -> list[Row]:
    clips = held_out(shards)
    chosen = [clips[index] for index in np.linspace(0, len(clips) - 1, count).round().astype(int)]
    length = synth.family.length
    assert length is not None
    random = synth.latents(0, RANDOM_LATENTS)
    drawn = [synth.sample(8, timbre=random[first : first + 8]) for first in range(0, len(random), 8)]
    sounds = np.concatenate(drawn).reshape(len(random), synth.channels, -1)

    def distances(some: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Of sounds [n, C, T] from one of them, [n]."""
        return np.asarray(multi_resolution_distance(some, target[None], synth.sample_rate)).mean(axis=1)

    rows = []
    for clip in tqdm(chosen, unit="sound"):
        recording = sound_of(shards, clip, synth.channels, length)
        target = np.pad(recording, ((0, 0), (0, length - recording.shape[1])))
        best = min(float(distances(sounds[first : first + 8], target).min()) for first in range(0, len(sounds), 8))
        began = time.perf_counter()
        timbre = synth.encode(target, synth.sample_rate)
        took = time.perf_counter() - began
        variants = np.stack([np.atleast_2d(synth.decode(timbre, seed=seed)) for seed in range(NOISES)])
        found = float(distances(variants[:1], target)[0])
        noises = [float(distances(one[None], other)[0]) for one, other in itertools.combinations(variants, 2)]
        rows.append({
            "what": "encode", "file": shards.clips[clip].file, "seconds": took, "distance": found, "best_of_random": best,
            "other_noise": statistics.mean(noises), "below_percent": 100 * (1 - found / best),
            "repeatable": bool((variants[0] == np.atleast_2d(synth.decode(timbre))).all()),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("run", metavar="RUN", help="the trained model")
    parser.add_argument("shards", metavar="SHARDS", help="the shards it was trained on, or others of its sample rate")
    parser.add_argument("--pairs", type=int, default=20, help="pairs to morph between")
    parser.add_argument("--encode", type=int, default=0, metavar="N", help="held-out sounds to encode")
    parser.add_argument("--worst", type=Path, metavar="FOLDER", help="where to write pictures of the worst morphs")
    options = parser.parse_args()
    synth: Synth = wavesynth.load(options.run)
    shards = shards_for(synth, options.shards)
    if options.encode and synth.family.length is None:
        parser.error("--encode is for models that search for the latent of a whole sound; leave it out")
    pairs, encoded = (2, min(options.encode, 1)) if options.quick else (options.pairs, options.encode)
    case: dict[str, Any] = {"implementation": "wavesynth", "model": synth.family.name, "quick": options.quick}
    rows: list[Row] = [machine()]
    morphs = [case | row for row in morph_rows(synth, shards, pairs, options.worst)]
    print_table(morphs, ("path", "metric", "low", "median", "high", "gate", "passes", "pairs"))
    found = [case | row for row in encode_rows(synth, shards, encoded)] if encoded else []
    if found:
        print_table(
            found,
            ("file", "seconds", "distance", "best_of_random", "other_noise", "below_percent", "repeatable"),
        )
        print(f"median {statistics.median(row['below_percent'] for row in found):.1f} % below the best random latent")
    write_json(options.json, rows + morphs + found)


if __name__ == "__main__":
    main()
