"""The preset that suits some sounds."""

from wavesynth.config import DatasetInfo

ONE_SHOT_SECONDS = 1.2  # a WaveGAN makes sounds of one second
MOST_WAVEGAN_RATE = 24_000  # Hz; beyond it, a second has too many samples for the small WaveGAN
FEW_MINUTES = 5  # of training
LITTLE_SECONDS = 60  # of sound

USES = {"wavegan": "to generate new one-shots", "autoencoder": "to encode, morph and resynthesize sounds"}


def suited_preset(dataset: DatasetInfo, seconds: float, minutes: float | None = None) -> tuple[str, str]:
    """The preset for some training sounds, and one sentence that says why.

    Short sounds without pitch suit a WaveGAN, all others an autoencoder. Its size depends on the amount of sound and the time
    for training. A WaveNet, which generates sample by sample, is never chosen.

    Args:
        dataset: facts about the sounds.
        seconds: length of all sounds together.
        minutes: time for training; None if it is open.

    >>> suited_preset(DatasetInfo(16_000, clip_seconds=0.4), seconds=300)[0]
    'wavegan-small'
    >>> suited_preset(DatasetInfo(44_100, clip_seconds=180.0), seconds=3_000, minutes=3)[0]
    'autoencoder-tiny'
    """
    with_pitch = sum(pitch >= 0 for _, pitch in dataset.typical)
    pitched = with_pitch > 0.5 * len(dataset.typical)
    short = dataset.clip_seconds < ONE_SHOT_SECONDS
    family = "wavegan" if short and not pitched and dataset.sample_rate <= MOST_WAVEGAN_RATE else "autoencoder"
    other = "autoencoder" if family == "wavegan" else "wavegan"
    size, amount = "small", ""
    if minutes is not None and minutes <= FEW_MINUTES:
        size, amount = "tiny", f" and {minutes:g} minutes for training"
    elif seconds < LITTLE_SECONDS:
        size, amount = "tiny", f", only {seconds:.0f} s in all"
    kind = "sounds with pitches" if pitched else "sounds without pitches"
    length = f"half of them shorter than {dataset.clip_seconds:.1f} s"
    reason = (
        f"preset {family}-{size}, {USES[family]}: chosen for {kind}, {length}, at {dataset.sample_rate:,} Hz{amount}; --preset "
        f"{other}-{size} {USES[other]}, --preset wavenet-{size} to generate sample by sample"
    )
    return f"{family}-{size}", reason
