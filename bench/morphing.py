"""How good a trained model's morphs are, and how near its timbres come to recorded sounds.

    python bench/morphing.py RUN SHARDS [--pairs 20] [--encode 0]

Morphs: the metrics of merit (see `wavesynth.evaluation.morphing`) of 17 steps between pairs of timbres, medians and
quartiles over the pairs, with those of the crossfade of the same ends beside them. A model that reconstructs (an autoencoder)
goes between sounds that were held out, of two labels and one pitch each; any other between latents drawn by chance, of two
labels where it has them. With --worst FOLDER, pictures of the five pairs that fail most gates are left there.

Encoding, of --encode held-out sounds by a model that searches for latents (a WaveGAN): the multi-resolution distance in dB
of the sound that was found, and of the best of 1,000 latents drawn by chance; noises_apart, how far sounds of the timbre that
was found lie from each other when the model draws other noise; and whether two decodings are alike to the byte.
"""

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from harness import Row, arguments, machine, print_table, write_json
from tqdm import tqdm

import wavesynth
from wavesynth import Synth, Timbre
from wavesynth.audio import pictures
from wavesynth.audio import pitch as pitches
from wavesynth.audio.pcm import to_float
from wavesynth.audio.spectral import multi_resolution_distance
from wavesynth.data.shards import ClipRecord, Shards
from wavesynth.evaluation.morphing import GATES, MorphMetrics, crossfade, judge

STEPS = 17
RANDOM_LATENTS = 1_000
SECONDS = 1.0
DRAWN = 4  # sounds of a timbre, each of other noise


def held_out(shards: Shards) -> list[int]:
    return [*shards.split("valid"), *shards.split("test")]


def pairs_of_sounds(synth: Synth, shards: Shards, count: int) -> list[tuple[str, Timbre, Timbre]]:
    """Pairs of held-out sounds, each of two labels and one pitch, as different pairs of labels as there are."""
    clips = [(clip, shards.clips[clip]) for clip in held_out(shards)]
    found = [
        (a, b) for a, b in itertools.combinations(clips, 2)
        if a[1].label != b[1].label and a[1].pitch == b[1].pitch
    ]  # fmt: skip
    np.random.default_rng(0).shuffle(found)  # type: ignore[arg-type]
    chosen, used = [], set()
    for a, b in found:
        labels = frozenset((a[1].label, b[1].label))
        if labels not in used and len(chosen) < count:
            used.add(labels)
            chosen.append((a, b))

    def encoded(clip: int, record: ClipRecord) -> Timbre:
        samples = to_float(shards.samples(clip)[0])[: round(SECONDS * synth.sample_rate)]
        return synth.encode(samples, pitch=record.pitch)

    return [(f"{a[1].file} - {b[1].file}", encoded(*a), encoded(*b)) for a, b in chosen]


def pairs_of_latents(synth: Synth, count: int) -> list[tuple[str, Timbre, Timbre]]:
    """Pairs of latents drawn by chance, of two labels each where there are labels."""
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
    tracked = synth.family.dataset.pitched and pitches.available()
    for _, a, b in tqdm(pairs, unit="pair"):
        made = synth.morph(a, b, STEPS)
        sounds.append(made)
        for name, path in (("morph", made), ("crossfade", crossfade(made[0], made[-1], STEPS))):
            metrics[name].append(judge(path, synth.sample_rate, track_pitch=tracked))
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
        for accuracy, index in enumerate(order):
            failed = metrics["morph"][index].failed
            print(f"worst {accuracy + 1}: {pairs[index][0]}: fails {', '.join(failed) or 'nothing'}")
            shown = {str(step): sounds[index][step] for step in range(0, STEPS, 2)}
            pictures.strip(worst / f"worst-{accuracy + 1}.png", shown, synth.sample_rate)
    return rows


def encode_rows(synth: Synth, shards: Shards, count: int) -> list[Row]:
    clips = held_out(shards)
    chosen = [clips[index] for index in np.linspace(0, len(clips) - 1, count).round().astype(int)]
    length = synth.family.length
    assert length is not None
    random = synth.latents(0, RANDOM_LATENTS)
    made = np.concatenate([synth.sample(8, timbre=random[first : first + 8]) for first in range(0, len(random), 8)])
    apart = jax.jit(multi_resolution_distance)
    rows = []
    for clip in tqdm(chosen, unit="sound"):
        target = np.zeros(length, np.float32)
        heard = to_float(shards.samples(clip)[0])[:length]
        target[: len(heard)] = heard
        best = min(float(apart(made[first : first + 8], target[None]).min()) for first in range(0, len(made), 8))
        began = time.perf_counter()
        timbre = synth.encode(target)
        took = time.perf_counter() - began
        decoded = synth.decode(timbre)
        found = float(apart(decoded, target))
        drawn = [decoded, *(synth.decode(timbre, seed=seed) for seed in range(1, DRAWN))]
        noises = [float(apart(one, other)) for one, other in itertools.combinations(drawn, 2)]
        rows.append({
            "what": "encode", "file": shards.clips[clip].file, "seconds": took, "distance": found, "best_of_random": best,
            "noises_apart": statistics.mean(noises), "below_percent": 100 * (1 - found / best),
            "alike_to_the_byte": bool((decoded == synth.decode(timbre)).all()),
        })  # fmt: skip
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("run", metavar="RUN", help="the model")
    parser.add_argument("shards", metavar="SHARDS", help="what it was trained on")
    parser.add_argument("--pairs", type=int, default=20, help="to morph between")
    parser.add_argument("--encode", type=int, default=0, metavar="N", help="held-out sounds to encode by search")
    parser.add_argument("--worst", type=Path, metavar="FOLDER", help="where to leave pictures of the worst morphs")
    options = parser.parse_args()
    synth: Synth = wavesynth.load(options.run)
    shards = Shards.open(options.shards)
    if options.encode and synth.family.length is None:
        parser.error("--encode: the model does not search for latents of whole sounds; leave it out")
    pairs, encoded = (2, min(options.encode, 1)) if options.quick else (options.pairs, options.encode)
    case: dict[str, Any] = {"implementation": "wavesynth", "model": synth.family.name, "quick": options.quick}
    rows: list[Row] = [machine()]
    morphs = [case | row for row in morph_rows(synth, shards, pairs, options.worst)]
    print_table(morphs, ("path", "metric", "low", "median", "high", "gate", "passes", "pairs"))
    found = [case | row for row in encode_rows(synth, shards, encoded)] if encoded else []
    if found:
        print_table(
            found,
            ("file", "seconds", "distance", "best_of_random", "noises_apart", "below_percent", "alike_to_the_byte"),
        )
        print(f"median {statistics.median(row['below_percent'] for row in found):.1f} % below the best of chance")
    write_json(options.json, rows + morphs + found)


if __name__ == "__main__":
    main()
