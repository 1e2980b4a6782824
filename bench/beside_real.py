"""A picture of samples beside real sounds: `python bench/beside_real.py RUN FOLDER LABEL_PITCH ... --out picture.png`.

For every LABEL_PITCH, such as `tuba_048`, the picture has the first file of FOLDER whose name begins like this and, below it, a
sound that the model of RUN generates for the same label and pitch. Also writes the samples as WAV files beside the picture.
"""

import argparse
from pathlib import Path

import wavesynth
from wavesynth.audio import files, pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("notes", nargs="+", metavar="LABEL_PITCH")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--temperature", type=float, default=1.0)
    options = parser.parse_args()

    synth = wavesynth.load(options.run)
    real, made = {}, {}
    for note in options.notes:
        label, pitch = note.rsplit("_", 1)
        path = min(options.folder.rglob(f"{note}*"))
        real[f"real: {label} {int(pitch)}"] = files.read(path, synth.sample_rate)[0][
            : int(options.seconds * synth.sample_rate)
        ]
        sample = synth.sample(1, options.seconds, label=label, pitch=float(pitch), temperature=options.temperature)[0]
        made[f"made: {label} {int(pitch)}"] = sample
        wavs = options.out.with_suffix("")
        wavs.mkdir(exist_ok=True)
        files.write(wavs / f"{note}.wav", sample, synth.sample_rate, force=True)
    pictures.spectrogram(options.out, real | made, synth.sample_rate, columns=len(options.notes))


if __name__ == "__main__":
    main()
