"""The sounds that ship with the package, and the script that made them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavesynth.demo import render_sounds
from wavesynth.demo.render_sounds import INSTRUMENTS, SAMPLE_RATE, Instrument
from wavesynth.errors import UserError

EACH_INSTRUMENT = pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda instrument: instrument.label)


def read(shipped: Path, instrument: Instrument) -> np.ndarray:
    """int16 [num_notes, num_samples, 2]."""
    names = [instrument.file_name(*note) for note in instrument.notes]
    return np.stack([soundfile.read(shipped / instrument.label / name, dtype="int16")[0] for name in names])


def test_the_folder_holds_what_the_script_makes_and_its_licence(shipped: Path) -> None:
    expected = {Path(i.label, i.file_name(*note)) for i in INSTRUMENTS for note in i.notes}
    found = {path.relative_to(shipped) for path in shipped.rglob("*") if path.is_file()}
    assert found - expected == {Path("LICENSE"), Path("README.md")}
    assert not expected - found
    assert "Permission is hereby granted, free of charge" in (shipped / "LICENSE").read_text(encoding="utf-8")
    assert sum((shipped / path).stat().st_size for path in found) < 4_000_000


@EACH_INSTRUMENT
def test_format_and_level(shipped: Path, instrument: Instrument) -> None:
    for note in instrument.notes:
        info = soundfile.info(shipped / instrument.label / instrument.file_name(*note))
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 2, "PCM_16")
        assert info.frames == instrument.seconds * SAMPLE_RATE
    samples = read(shipped, instrument) / 32768
    peak_db, rms_db = 20 * np.log10(np.abs(samples).max()), 10 * np.log10(np.mean(samples**2))
    assert peak_db == pytest.approx(-1, abs=0.1) or rms_db == pytest.approx(-20, abs=0.1)
    assert peak_db < -0.9
    assert rms_db < -19.9
    assert np.all(np.sqrt(np.mean(samples**2, axis=(1, 2))) > 0.01)
    assert np.abs(samples[:, :4]).max() < 0.01
    assert np.abs(samples[:, -4:]).max() < 0.001


@pytest.mark.parametrize("instrument", [i for i in INSTRUMENTS if not i.is_drum], ids=lambda i: i.label)
def test_a_pitched_sound_has_the_pitch_in_its_name(shipped: Path, instrument: Instrument) -> None:
    samples = read(shipped, instrument)[:, 4_410:39_690].mean(axis=2) / 32768
    power = np.abs(np.fft.rfft(samples * np.hanning(samples.shape[1]))) ** 2
    hz = np.fft.rfftfreq(samples.shape[1], 1 / SAMPLE_RATE)
    for (pitch, _), spectrum in zip(instrument.notes, power):
        harmonic = hz / (440 * 2 ** ((pitch - 69) / 12))
        audible = (harmonic > 0.5) & (harmonic < 12.5)
        near = audible & (np.abs(harmonic / np.maximum(1, np.round(harmonic)) - 1) < 0.02)
        assert spectrum[near].sum() > 0.9 * spectrum[audible].sum(), pitch
        fundamental = np.abs(harmonic - 1) < 0.06
        assert spectrum[fundamental].sum() > 0.02 * spectrum.sum(), pitch


@pytest.mark.parametrize(
    ("value", "expected"), [(0, "00"), (0x7F, "7f"), (0x80, "8100"), (0x2000, "c000"), (0xFFFFFFF, "ffffff7f")]
)
def test_variable_length_quantities_of_the_midi_standard(value: int, expected: str) -> None:
    assert render_sounds.variable_length(value).hex() == expected


def test_a_midi_file_plays_its_notes() -> None:
    midi = render_sounds.midi_file(Instrument("two", 5, keys=(60,), velocities=(1, 100)))
    assert midi[:14].hex() == "4d546864" + "00000006" + "0000" + "0001" + "01e0"
    assert int.from_bytes(midi[18:22], "big") == len(midi) - 22
    for message in (b"\xc0\x05", b"\x90\x3c\x01", b"\x90\x3c\x64", b"\x80\x3c\x00"):
        assert message in midi
    assert midi.endswith(b"\x00\xff\x2f\x00")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="apt-get install fluidsynth fluid-soundfont-gm"):
        render_sounds.render_all(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda _: "fluidsynth")
    with pytest.raises(UserError, match=r"none\.sf2 does not exist"):
        render_sounds.render_all(tmp_path, tmp_path / "none.sf2")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not render_sounds.SOUND_FONT.is_file(), reason="no FluidSynth or sound font"
)
@pytest.mark.parametrize("label", ["vibraphone", "snare"])
def test_rendering_again_gives_the_shipped_sounds(shipped: Path, label: str) -> None:
    (instrument,) = (i for i in INSTRUMENTS if i.label == label)
    again, stored = render_sounds.render(instrument) / 32768, read(shipped, instrument) / 32768
    # Another FluidSynth or soxr may round differently; -60 dBFS is far below what any of them would get wrong.
    np.testing.assert_allclose(again, stored, atol=1e-3)
