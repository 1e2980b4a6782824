"""Pictures are whole, of the right size, and show what was loud where."""

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tests.tolerances import rounding
from wavesynth.audio import pictures
from wavesynth.audio.pictures import spectrogram
from wavesynth.errors import UserError

SAMPLE_RATE = 16_000


def sine(hz: float, seconds: float = 0.3) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def pixels(path: Path) -> np.ndarray:
    return imread(path)[..., :3]


def test_a_grid_of_titled_sounds(tmp_path: Path) -> None:
    path = tmp_path / "grid.png"
    spectrogram(path, {f"{hz} Hz": sine(hz) for hz in (110, 220, 440, 880, 1760)}, SAMPLE_RATE, columns=3)
    height, width, _ = pixels(path).shape
    assert width == pytest.approx((3 * 2.7 + 1.2) * 150, abs=1)
    assert height == pytest.approx((2 * 1.9 + 0.6) * 150, abs=1)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    "sounds",
    [
        [sine(440.0)],
        np.stack([sine(440.0), sine(660.0)]),
        {"silence": np.zeros(4000), "one sample": np.ones(1), "nothing": np.zeros(0)},
        {"long": np.zeros(120 * SAMPLE_RATE)},
        {
            "$x_1 \\frac{": sine(440.0),
            "new\nline": sine(1.0),
            "\udce9 bytes": sine(2.0),
            "調べ": sine(3.0),
            "": sine(4.0),
        },
    ],
    ids=["list", "array", "empty", "long", "titles"],
)
def test_any_sounds_can_be_drawn(tmp_path: Path, sounds) -> None:
    spectrogram(tmp_path / "sounds.png", sounds, SAMPLE_RATE)
    assert pixels(tmp_path / "sounds.png").size


@pytest.mark.parametrize("sample_rate", [8_000, 48_000])
def test_other_rates(tmp_path: Path, sample_rate: int) -> None:
    spectrogram(tmp_path / "rate.png", [np.random.default_rng(0).normal(0, 0.1, 5000)], sample_rate)


def test_the_same_sounds_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        spectrogram(tmp_path / name, {"a": sine(440.0)}, SAMPLE_RATE)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_loudest_panel_sets_the_scale_and_silence_is_black() -> None:
    panels = {"loud": sine(1000.0), "soft": 0.01 * sine(1000.0), "silent": np.zeros(4800)}
    figure = pictures.draw(pictures.titled_sounds(panels), SAMPLE_RATE, 3)
    loud, soft, silent = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    assert loud.max() == 0
    assert soft.max() == pytest.approx(-40, abs=rounding("float32", terms=1024, scale=40))
    assert silent.max() <= -70
    alone = pictures.draw(pictures.titled_sounds({"silent": np.zeros(4800)}), SAMPLE_RATE, 1)
    assert np.asarray(alone.axes[0].images[0].get_array()).max() <= -70


def test_a_frequency_is_drawn_at_its_label() -> None:
    figure = pictures.draw(pictures.titled_sounds([sine(2000.0)]), SAMPLE_RATE, 1)
    panel = figure.axes[0]
    heights = {label.get_text(): height for label, height in zip(panel.get_yticklabels(), panel.get_yticks())}
    loudest_band = np.asarray(panel.images[0].get_array()).max(axis=1).argmax()
    assert heights["2k"] == pytest.approx(loudest_band, abs=0.6)


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_the_disk(self, path: Path, **_) -> None:
        path.write_bytes(b"half a picture")
        raise OSError("no space left on device")

    path = tmp_path / "old.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fill_the_disk)
    with pytest.raises(OSError, match="no space"):
        spectrogram(path, [sine(440.0)], SAMPLE_RATE)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'wavesynth-jax\[viz\]'"):
        spectrogram(tmp_path / "none.png", [sine(440.0)], SAMPLE_RATE)


def test_a_stereo_panel_shows_the_mean_power_of_its_channels() -> None:
    stereo = np.stack([sine(1000.0), np.zeros(4800)])
    panels = {"left alone": stereo, "mono": sine(1000.0), "out of phase": np.stack([sine(1000.0), -sine(1000.0)])}
    figure = pictures.draw(pictures.titled_sounds(panels), SAMPLE_RATE, 3)
    left, mono, out_of_phase = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    tolerance = rounding("float32", terms=1024, scale=70)
    assert left.max() == pytest.approx(mono.max() - 10 * np.log10(2), abs=tolerance)
    np.testing.assert_allclose(out_of_phase, mono, atol=tolerance)


def test_a_strip_shows_a_value_below_each_sound(tmp_path: Path) -> None:
    tones = np.stack([sine(hz) for hz in (220, 440, 880)])
    pictures.strip(tmp_path / "strip.png", tones, SAMPLE_RATE, {"pitch, Hz": np.array([220, np.nan, 880])})
    height, width, _ = pixels(tmp_path / "strip.png").shape
    assert width == pytest.approx((3 * 2.7 + 1.2) * 150, abs=1)
    assert height == pytest.approx((1.9 + 0.9 + 0.6) * 150, abs=1)
    figure = pictures.draw(pictures.titled_sounds(tones), SAMPLE_RATE, 3, {"pitch, Hz": np.arange(3)})
    *panels, curve, _ = figure.axes
    for place, panel in enumerate(panels):
        value = curve.transData.transform((curve.lines[0].get_xdata()[place], 0))[0]
        low, high = (figure.transFigure.transform(corner)[0] for corner in panel.get_position().get_points())
        assert low < value < high
    with pytest.raises(UserError, match=r"^curves: 'a' has 2 values for 3 sounds"):
        pictures.strip(tmp_path / "none.png", tones, SAMPLE_RATE, {"a": np.zeros(2)})


@pytest.mark.parametrize(
    ("sounds", "columns", "argument"),
    [
        ([], 4, "sounds"),
        ({}, 4, "sounds"),
        ([np.zeros((100, 2))], 4, "sounds"),
        ([np.zeros((1, 2, 100))], 4, "sounds"),
        ([np.full(100, np.nan)], 4, "sounds"),
        ([np.zeros(100)], 0, "columns"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path: Path, sounds, columns: int, argument: str) -> None:
    with pytest.raises(UserError, match=f"^{argument}: "):
        spectrogram(tmp_path / "none.png", sounds, SAMPLE_RATE, columns=columns)
    assert not list(tmp_path.iterdir())
