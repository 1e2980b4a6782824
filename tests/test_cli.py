"""The command line: every command from end to end, every mistake one line with its remedy, and help that comes at once."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import wavesynth
from wavesynth.__main__ import main
from wavesynth.commands import COMMANDS, console, jax_settings
from wavesynth.errors import UserError


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


@pytest.fixture
def fails(start: Callable[..., Any]) -> Callable[..., str]:
    """fails(*arguments) runs a command that must exit with 2 and one line on stderr, which it returns."""

    def run(*arguments: object) -> str:
        child = start(*arguments)
        assert child.status == 2, child.stderr
        assert child.stdout == ""
        assert "Traceback" not in child.stderr
        assert len(child.stderr.splitlines()) == 1, child.stderr
        assert child.stderr.startswith(f"wavesynth {arguments[0]}: ")
        return child.stderr

    return run


# Help.


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--version"], ["--nonsense"]])
def test_the_overview_imports_nothing_slow(arguments: list[str]):
    program = (
        "import sys\nfrom wavesynth.__main__ import main\n"
        f"status = main({arguments})\n"
        "slow = {'jax', 'jaxlib', 'numpy', 'flax', 'optax', 'orbax', 'tyro', 'soundfile', 'soxr', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow\nsys.exit(status)"
    )
    done = python("-c", program)
    if arguments == ["--nonsense"]:
        assert done.returncode == 2
        assert done.stderr == "wavesynth: '--nonsense' is not a command: see wavesynth --help\n"
        return
    assert done.returncode == 0, done.stderr
    if arguments == ["--version"]:
        assert done.stdout == f"wavesynth {wavesynth.__version__}\n"
    else:
        assert all(re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, start):
    child = start(name, "--help")
    assert child.status == 0, child.stderr
    assert child.stderr == ""
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", child.stdout)
    assert text.startswith(f"usage: wavesynth {name} ")
    assert COMMANDS[name].__doc__.split(":")[0].strip("[] ") in text.replace("[OPTIONS] ", "").replace("[", "")
    for option in re.split(r"(?<!,) (?=--[a-z])", text):
        name, *words = option.partition("(default")[0].split()
        if name.startswith("--") and not name.startswith("--model.") and not name.endswith("."):
            assert [word for word in words if not re.match(r"INT|FLOAT|STR|PATH|\{|\[|\.\.\.\]", word)], (
                f"{name} does not say what it is"
            )


def test_help_says_units(start):
    commands = {"train": ["train", "--preset", "wavenet-small"], "sample": ["sample"], "prepare": ["prepare"]}
    children = {name: start(*command, "--help") for name, command in commands.items()}
    assert {child.status for child in children.values()} == {0}
    text = {name: re.sub(r"[│\s]+", " ", child.stdout) for name, child in children.items()}
    assert "--sample-rate INT Hz" in text["prepare"]
    assert re.search(r"--pitch \S+ MIDI number; 60 is middle C", text["sample"])
    assert re.search(r"--training.crop-seconds FLOAT length of an example", text["train"])
    assert re.search(r"--training.save-every INT steps between", text["train"])
    assert "--quiet Do not show progress." in text["train"]


# From end to end.


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, sounds: Path, start, tiny_flags: list[str]) -> Path:
    """A folder with shards/ and run/, made by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    child = start("prepare", sounds, folder / "shards", "--workers", 1)
    assert child.status == 0, child.stderr
    assert "72" in child.stdout
    assert "kick" in child.stdout
    child = start("train", folder / "shards", folder / "run", *tiny_flags)
    assert child.status == 0, child.stderr
    assert "20 steps" in child.stdout
    assert re.search(r"bits per sample of held-out sounds: uniform 16.00, unigram \d", child.stdout)
    assert f"wavesynth sample {folder / 'run'} OUT" in child.stdout
    return folder


def test_it_is_what_the_function_does(trained: Path, tiny_run: Path):
    for name in ("config.json", "model.safetensors", "previews/0000020/000.wav"):
        assert (trained / "run" / name).read_bytes() == (tiny_run / name).read_bytes()


def test_flags_change_the_preset(trained: Path, tmp_path: Path, start):
    def default(child: Any, flag: str) -> str:
        found = re.search(rf"--{flag} [A-Z]+ .*?\(default: (.*?)\)", re.sub(r"[│\s]+", " ", child.stdout))
        assert found
        return found[1]

    tiny = start("train", "--preset", "wavenet-tiny", "--help")
    large = start("train", "--preset=wavenet", "--help")
    for child, name in ((tiny, "wavenet-tiny"), (large, "wavenet")):
        config = wavesynth.preset(name)
        assert child.status == 0
        assert default(child, "preset") == name
        assert default(child, "model.channels") == str(config.model.channels)
        assert default(child, "training.batch-size") == str(config.training.batch_size)
    config = json.loads((trained / "run" / "config.json").read_text())  # of wavenet-tiny, with flags
    assert config["training"]["batch_size"] == 4
    assert config["model"]["layers_per_stack"] == 5


def test_sample(trained: Path, tmp_path: Path, start):
    child = start(
        "sample", trained / "run", tmp_path, "--n", 2, "--seconds=0.1", "--label", "kick", "--pitch", 60, "--seed", 3
    )
    assert child.status == 0, child.stderr
    assert child.stdout == f"wrote {tmp_path / '000.wav'} to 001.wav\n"
    sounds, rates = zip(*(soundfile.read(tmp_path / f"{i:03d}.wav", dtype="int16") for i in range(2)))
    assert rates == (16_000, 16_000)
    assert [len(sound) for sound in sounds] == [1_600, 1_600]
    assert np.std(sounds[0]) > 0


def test_sample_goes_on_from_a_file(trained: Path, tmp_path: Path, start):
    soundfile.write(tmp_path / "x.flac", 0.5 * np.sin(np.arange(8_820) / 10), 44_100)
    arguments = ["--prime", tmp_path / "x.flac", "--temperature", 0.9, "--top-k", 2, "--top-p", 0.9]
    child = start("sample", trained / "run", tmp_path / "out", "--n=1", "--seconds", 0.01, *arguments)
    assert child.status == 0, child.stderr
    assert child.stdout == f"wrote {tmp_path / 'out' / '000.wav'}\n"


def test_score(trained: Path, tmp_path: Path, start):
    for i, scale in enumerate((0.1, 0.5)):
        soundfile.write(tmp_path / f"{i}.wav", scale * np.sin(np.arange(1_600 * (i + 1)) / 10), 16_000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    child = start("score", trained / "run", tmp_path, "--quantization", "mulaw")
    assert child.status == 0, child.stderr
    assert "Traceback" not in child.stderr
    (left_out,) = child.stderr.splitlines()
    assert left_out.startswith("wavesynth score: ")
    assert "broken.wav" in left_out
    rows = [line.split(maxsplit=3) for line in child.stdout.splitlines()]
    assert [(row[1], row[3]) for row in rows] == [
        ("0.10", str(tmp_path / "0.wav")), ("0.20", str(tmp_path / "1.wav")), ("0.30", "mean of 2 sounds"),
    ]  # fmt: skip
    bits = [float(row[0]) for row in rows]
    assert bits[2] == pytest.approx((bits[0] + 2 * bits[1]) / 3, abs=1e-3)


def test_morph(trained: Path, tmp_path: Path, start, fails):
    child = start("morph", trained / "run", "flute", "cello", tmp_path, "--steps", 3, "--seconds", 0.05, "--pitch", 60)
    assert child.status == 0, child.stderr
    first, *table = child.stdout.splitlines()
    assert first == f"wrote {tmp_path / '000.wav'} to 002.wav, and morph.wav, which plays them in sequence"
    assert [line.split()[0] for line in table] == ["evenness", "morph", "crossfade", "gate"]
    assert (tmp_path / "morph.png").stat().st_size > 0
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"morph", "crossfade"}
    assert [soundfile.info(tmp_path / f"{i:03d}.wav").frames for i in range(3)] == [800] * 3
    before = (tmp_path / "000.wav").read_bytes()
    assert "--force" in fails("morph", trained / "run", "flute", "cello", tmp_path, "--steps", 3, "--seconds", 0.05)
    assert (tmp_path / "000.wav").read_bytes() == before
    assert "label is 'gong'" in fails("morph", trained / "run", "flute", "gong", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_timbre_is_encoded_and_played(trained: Path, sounds: Path, tmp_path: Path, start, fails):
    flute = sorted((sounds / "flute").glob("*_060_*.flac"))[0]
    child = start("encode", trained / "run", flute, tmp_path / "flute.json")
    assert child.status == 0, child.stderr
    assert (
        child.stdout
        == f"wrote {tmp_path / 'flute.json'}: 4 numbers of {soundfile.info(flute).duration:.2f} s at pitch 60\n"
    )
    assert "flute.json exists" in fails("encode", trained / "run", flute, tmp_path / "flute.json")
    child = start("decode", trained / "run", tmp_path / "flute.json", tmp_path / "flute.wav", "--seconds", 0.05)
    assert child.status == 0, child.stderr
    assert soundfile.info(tmp_path / "flute.wav").frames == 800
    assert "flute.wav exists" in fails("decode", trained / "run", tmp_path / "flute.json", tmp_path / "flute.wav")
    child = start("glide", trained / "run", tmp_path / "flute.json", "cello", tmp_path / "glide.wav", "--seconds", 0.1)
    assert child.status == 0, child.stderr
    assert soundfile.info(tmp_path / "glide.wav").frames == 1_600
    corners = (tmp_path / "flute.json", "cello", "kick")
    child = start("grid", trained / "run", tmp_path / "grid", *corners, "--size", 2, "--seconds", 0.05)
    assert child.status == 0, child.stderr
    assert {path.name for path in (tmp_path / "grid").iterdir()} == {
        "0-0.wav", "0-1.wav", "1-0.wav", "1-1.wav", "grid.png",
    }  # fmt: skip
    assert "corners has 1 members" in fails("grid", trained / "run", tmp_path / "other", "flute")


def test_evaluate(trained: Path, tmp_path: Path, start, fails):
    shards, run, metrics = trained / "shards", trained / "run", tmp_path / "metrics.json"
    child = start("evaluate", run, shards, "--n", 3, "--seconds", 0.02, "--json", metrics)
    assert child.status == 0, child.stderr
    assert child.stdout.startswith("3 generated and 3 held-out sounds of 0.02 seconds")
    assert re.search(r"^energy distance, dB +\S+ +\S+ +\S+ +training sounds$", child.stdout, re.MULTILINE)
    assert f"  wavesynth train {shards} runs/judge --preset classifier" in child.stdout
    before = json.loads(metrics.read_text())
    assert before["generated"] == 3
    assert "overwrite it with --force" in fails("evaluate", run, shards, "--json", metrics)
    assert "cannot judge sounds" in fails("evaluate", run, shards, "--classifier", run)
    assert json.loads(metrics.read_text()) == before


def test_a_classifier_is_trained_and_judges(trained: Path, tmp_path: Path, start):
    flags = [
        "--model.channels=4",
        "--model.layers=2",
        "--training.crop-seconds=0.128",
        "--training.batch-size=4",
        "--steps=2",
    ]
    child = start("train", trained / "shards", tmp_path / "judge", "--preset", "classifier", *flags)
    assert child.status == 0, child.stderr
    assert "cross-entropy of the labels of held-out sounds, bits: uniform 3.17, frequencies 3." in child.stdout
    assert f"wavesynth evaluate RUN SHARDS --classifier {tmp_path / 'judge'}" in child.stdout
    options = ["--classifier", tmp_path / "judge", "--n", 3, "--seconds", 0.02]
    child = start("evaluate", trained / "run", trained / "shards", *options)
    assert child.status == 0, child.stderr
    for metric in ("label accuracy", "inception score of 3", "Fréchet distance of 3"):
        assert re.search(rf"^{metric} +\S+ \[.*\] +\S+ \[.*\] ", child.stdout, re.MULTILINE), metric
    assert "--preset classifier" not in child.stdout


def test_info(trained: Path, start):
    child = start("info", trained / "run")
    assert child.status == 0, child.stderr
    for said in ("wavenet", "parameters", "16,000 Hz", "with pitches", "kick", "20 steps", "valid_bits"):
        assert said in child.stdout, said


def test_info_of_published_weights(trained: Path, tmp_path: Path, start):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(trained / "run" / name, tmp_path / name)
    child = start("info", tmp_path)
    assert child.status == 0, child.stderr
    assert "trained      " not in child.stdout
    assert start("sample", tmp_path, tmp_path / "out", "--n", 1, "--seconds", 0.01).status == 0


def test_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, compile_cache: None, shipped: Path
):
    # With networks that train in a second, for two steps; what it leaves is the demo's own.
    import dataclasses

    from wavesynth import demo

    whole, published = wavesynth.preset("autoencoder-tiny"), tmp_path / "published"
    model = dataclasses.replace(
        whole.model, encoder_channels=8, encoder_dilations=(1,), channels=8, dilations=(1,), long_seconds=0.0
    )
    training = dataclasses.replace(
        whole.training, steps=1, batch_size=2, crop_seconds=0.1, validation_windows=2, preview_seconds=0.05
    )
    wavesynth.train(
        shipped / "cello", published, dataclasses.replace(whole, model=model, training=training), progress=False
    )
    monkeypatch.setattr(demo, "PUBLISHED", str(published))
    monkeypatch.setattr(demo, "NOTE_STEPS", 180)
    monkeypatch.setattr(
        demo, "preset", {"autoencoder-tiny": dataclasses.replace(whole, model=model, training=training)}.__getitem__
    )
    out, flags = tmp_path / "demo", ["--seconds-per-model", "1"]
    assert main(["demo", str(out), *flags]) == 0
    said = capsys.readouterr()
    assert all(f"{i} of 5" in said.out for i in range(1, 6))
    assert said.out.count(", 2 steps on ") == 1  # of 180 in 90 seconds
    assert f"training begins from {published.name}" in said.out
    assert f"open {out / 'index.html'}" in said.out
    page = (out / "index.html").read_text()
    wavs = list(out.glob("*/*.wav"))
    counts = {"morph": 9, "sampled": 6, "real": 6, "glide": 1, "drums": 6, "real-drums": 6, "grid": 16}
    for folder, count in counts.items():
        assert sum(wav.parent.name == folder for wav in wavs) == count
    for wav in wavs:
        assert soundfile.info(wav).samplerate == 44_100
        assert soundfile.info(wav).channels == 2
        assert wav.name.replace(" ", "%20") in page or wav.name in page
    assert main(["demo", str(out), *flags]) == 2
    assert "replace a demo with --force" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    assert main(["demo", str(tmp_path / "other"), "--force"]) == 2  # is not a demo
    assert main(["demo", str(tmp_path / "new"), "--seconds-per-model", "0"]) == 2
    assert "seconds_per_model is 0: it must be above 0" in capsys.readouterr().err


def test_an_old_demo_stays_until_the_new_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from wavesynth import demo

    (tmp_path / "demo" / "run").mkdir(parents=True)
    (tmp_path / "demo" / "index.html").write_text("old")

    def make(out: Path, *_: Any) -> Path:
        assert (tmp_path / "demo" / "index.html").read_text() == "old"
        out.mkdir()
        (out / "index.html").write_text("new")
        if stopped:
            raise KeyboardInterrupt
        return out / "index.html"

    monkeypatch.setattr(demo, "_make", make)
    stopped = True
    with pytest.raises(KeyboardInterrupt):
        demo.run(tmp_path / "demo", force=True)
    assert (tmp_path / "demo" / "index.html").read_text() == "old"
    stopped = False
    assert demo.run(tmp_path / "demo", force=True).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


# Mistakes.


def test_mistakes_in_what_is_named(trained: Path, tmp_path: Path, fails):
    run = trained / "run"
    assert "no such folder" in fails("prepare", tmp_path / "none", tmp_path / "shards")
    assert "no such folder" in fails("train", tmp_path / "none", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "--resume continues it, --force replaces it" in fails("train", trained / "shards", run)
    assert "holds no run to resume" in fails("train", trained / "shards", tmp_path / "run", "--resume")
    assert "preset is 'huge': choose one of" in fails("train", trained / "shards", tmp_path / "run", "--preset", "huge")
    assert "preset is 'huge'" in fails("train", "--preset=huge", trained / "shards", tmp_path / "run")
    assert "steps is 0: it must be at least 1" in fails("train", trained / "shards", tmp_path / "run", "--steps", 0)
    source, new = trained / "shards", tmp_path / "run"
    short = fails("train", source, new, "--preset", "wavenet-tiny", "--training.crop-seconds", 0.0002)
    assert "crop_seconds is 0.0002: it must be at least 0.008, the length of a frame" in short
    missing = fails("train", source, new, "--training.crop-seconds=3")
    assert (
        "--training.crop-seconds is a setting of a preset, and no preset is given: choose one with --preset" in missing
    )
    assert "minutes is 0: it must be above 0" in fails("train", source, new, "--minutes", 0)
    assert "give one of them" in fails("train", source, new, "--minutes", 3, "--steps", 3)
    for command in (["info"], ["sample"], ["score"]):
        line = fails(*command, tmp_path, *([tmp_path / "out"] if command != ["info"] else []))
        assert "holds no config.json: give a run folder" in line
    assert "no sound" in fails("score", run, tmp_path)
    assert "nothing.wav" in fails("score", run, tmp_path / "nothing.wav")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.mixtures", "0"], "model.mixtures is 0: it must be at least 1 and at most 64"),
        (["--model.kernel-width", "9"], "model.kernel_width is 9: it must be at least 2 and at most 3"),
        (["--model.stacks", "60", "--model.layers-per-stack", "12"], "model.stacks is 60: that gives 720 layers"),
        (["--training.learning-rate=nan"], "training.learning_rate is nan: it must be a finite number"),
        (["--preset", "wavegan-tiny", "--model.strides", "0"], "model.strides[0] is 0: it must be"),
        (["--preset", "classifier", "--training.seed", "-1"], "training.seed is -1: it must be at least 0"),
    ],
)
def test_config_flags_out_of_range(tmp_path: Path, fails, flags: list[str], message: str):
    preset = [] if "--preset" in flags else ["--preset", "wavenet-tiny"]
    assert message in fails("train", "none", tmp_path / "run", *preset, *flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seconds", "0"], "seconds is 0.0: it must be"),
        (["--seconds", "nan"], "seconds is nan"),
        (["--n", "0"], "n is 0"),
        (["--label", "gong"], "label is 'gong', which the model does not know: choose one of its labels"),
        (["--pitch", "300"], "pitch is 300: it must be"),
        (["--temperature", "0"], "temperature is 0.0"),
        (["--prime", "none.wav"], "none.wav cannot be read"),
        (["--implementation", "abacus"], "implementation is 'abacus': choose one of"),
    ],
)
def test_mistakes_in_sampling(trained: Path, tmp_path: Path, fails, flags: list[str], message: str):
    assert message in fails("sample", trained / "run", tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(trained: Path, tmp_path: Path, fails, start):
    (tmp_path / "000.wav").write_bytes(b"mine")
    assert "overwrite it with --force" in fails("sample", trained / "run", tmp_path, "--seconds", 0.01, "--n", 1)
    assert (tmp_path / "000.wav").read_bytes() == b"mine"
    assert start("sample", trained / "run", tmp_path, "--seconds", 0.01, "--n", 1, "--force").status == 0
    assert soundfile.info(tmp_path / "000.wav").frames == 160


def test_damaged_weights(trained: Path, tmp_path: Path, fails):
    shutil.copy(trained / "run" / "config.json", tmp_path)
    assert "has no model.safetensors" in fails("sample", tmp_path, tmp_path / "out")
    (tmp_path / "model.safetensors").write_bytes((trained / "run" / "model.safetensors").read_bytes()[:1_000])
    assert "cannot be read (it is cut short): use the config.json and the weights" in fails(
        "sample", tmp_path, tmp_path / "out"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "a", "b", "--stepz", "3"],
        ["sample", "a"],
        ["sample", "a", "b", "--n", "many"],
        ["sample", "a", "b", "--dtype", "int8"],
        ["info"],
        ["morph", "a", "b"],
    ],
)
def test_flags_that_are_not(arguments: list[str], start):
    child = start(*arguments)
    assert child.status == 2
    assert child.stdout == ""
    assert "Traceback" not in child.stderr
    assert re.search("unrecognized|required|invalid|parsing", child.stderr, re.IGNORECASE)


def test_a_reader_that_has_seen_enough(trained: Path, tmp_path: Path, child_environment: dict[str, str]):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * np.sin(np.arange(160) / (10 + i)), 16_000)
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "wavesynth", "score", str(trained / "run"), str(tmp_path)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=child_environment, check=False)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 0


FAILURES: list[tuple[BaseException, int, str]] = [
    (PermissionError(13, "Permission denied", "some\nwhere"), 2, "Permission denied: some\\nwhere"),
    (OSError(28, "No space left on device"), 2, "No space left on device"),
    (OSError("something without a number"), 2, "something without a number"),
    (OSError(), 2, "OSError"),
    (OSError(18, "Invalid cross-device link", b"a\xff", None, "b"), 2, "Invalid cross-device link: a\\xff: b"),
    (MemoryError("Unable to allocate 227. TiB"), 2, "not enough memory (Unable to allocate 227. TiB): ask for fewer"),
    (MemoryError(), 2, "not enough memory (none is left): ask for fewer or shorter sounds"),
    (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 2, "not enough memory"),
    (RecursionError("maximum recursion depth exceeded"), 2, "a file is nested too deeply to be read"),
    (RuntimeError("Unable to initialize backend 'gpu': nothing"), 2, "JAX does not find this device: Unable to"),
    (ValueError("I/O error: File too large (os error 27)"), 2, "I/O error: File too large (os error 27)"),
    (UserError("two\nlines \x1b[31m"), 2, "two\\nlines \\x1b[31m"),
    (KeyError("bug"), 1, "KeyError: 'bug'; this is a bug in wavesynth, WAVESYNTH_TRACEBACK=1 shows where"),
    (KeyboardInterrupt(), 130, "interrupted"),
]


@pytest.mark.parametrize(("error", "status", "says"), FAILURES, ids=repr)
def test_every_failure_is_one_line(
    error: BaseException, status: int, says: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
):
    def fail(_: list[str]) -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "info", fail)
    monkeypatch.delenv("WAVESYNTH_TRACEBACK", raising=False)
    monkeypatch.setattr("wavesynth.__main__.abandon_stdout", lambda: None)
    assert main(["info"]) == status
    said = capfd.readouterr()
    assert said.err.startswith(f"wavesynth info: {says}")
    assert said.err.count("\n") == 1
    if status == 1:
        monkeypatch.setenv("WAVESYNTH_TRACEBACK", "1")
        assert main(["info"]) == status
        assert "Traceback" in capfd.readouterr().err


def test_sigterm_ends_a_command_like_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setitem(COMMANDS, "info", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["info"]) == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "wavesynth info: terminated\n"
    assert signal.getsignal(signal.SIGTERM) is before


def test_names_of_strangers_are_escaped(capsys: pytest.CaptureFixture):
    console.say("label \x1b[2J\nnext\tline")
    console.complain("info", "a\x07b\nc")
    said = capsys.readouterr()
    assert said.out == "label \\x1b[2J\nnext\\tline\n"
    assert said.err == "wavesynth info: a\\x07b\\nc\n"


PRINTS = "from wavesynth.__main__ import main; import sys; sys.exit(main(['--help']))"


@pytest.mark.parametrize(("encoding", "expected"), [("cp1252", "é\\u8abf\n"), ("ascii", "\\xe9\\u8abf\n")])
def test_a_terminal_without_unicode(encoding: str, expected: str):
    program = "from wavesynth.commands import console; console.prepare_streams(); console.say('é調')"
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding) == expected


@pytest.mark.parametrize(
    ("streams", "status", "says"),
    [(">&-", 0, ""), (">&- 2>&-", 0, ""), (">/dev/full", 2, "wavesynth --help: No space left on device\n")],
)
def test_streams_that_take_nothing(streams: str, status: int, says: str):
    command = f'"{sys.executable}" -c "{PRINTS}" {streams}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", says)


def test_the_settings_of_jax_are_the_command_lines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = (
        "import jax, wavesynth.api\nassert jax.config.jax_enable_x64 and jax.config.jax_compilation_cache_dir is None\n"
        "from wavesynth.commands.jax_settings import configure_jax\nconfigure_jax()\n"
        "print(jax.config.jax_enable_x64, jax.config.jax_compilation_cache_dir, jax.config.jax_compilation_cache_max_size)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_ENABLE_X64": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == f"False {tmp_path / 'wavesynth' / 'jax'} {2**30}\n", done.stderr

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert jax_settings._cache_folder() is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    assert jax_settings._cache_folder() is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sample", "RUN", "out", "--n", 10_000_000], "n is 10000000: it must be a whole number of sounds"),
        (["morph", "RUN", "flute", "cello", "out", "--steps", 100_000], "steps is 100000: it must be"),
        (["morph", "RUN", "flute", "cello", "out", "--seconds", 1e12], "GiB are held in memory"),
        (["grid", "RUN", "out", "flute", "cello", "--size", 3_000], "size is 3000: it must be"),
        (["encode", "RUN", "none.wav", "out.json"], "none.wav cannot be read: no such file"),
        (["morph", "RUN", "none.wav", "flute", "out"], "no such file: none.wav"),
        (["sample", "RUN", "--play", "--n", 3], "--play plays one sound and writes nothing: leave out --n"),
        (["evaluate", "RUN", "SHARDS", "--json", "none/metrics.json"], "there is no folder none"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_what_is_too_much_or_not_there(
    trained: Path, fails, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list, says: str
):
    names = {
        "RUN": trained / "run",
        "SHARDS": trained / "shards",
        "out": tmp_path / "out",
        "out.json": tmp_path / "o.json",
    }
    assert says in fails(*(names.get(argument, argument) for argument in arguments))
    assert not list(tmp_path.iterdir())


def test_more_wavs_than_a_process_may_open_files(trained: Path, tmp_path: Path, child_environment: dict[str, str]):
    command = (
        f'ulimit -n 128; "{sys.executable}" -m wavesynth sample {trained / "run"} {tmp_path} --n 150 --seconds 0.01'
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=child_environment, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.wav"))) == 150


def test_playing_or_writing_but_not_both(trained: Path, tmp_path: Path, fails):
    run = trained / "run"
    assert "OUT, the folder to write to, or --play is required" in fails("sample", run)
    assert "not both" in fails("sample", run, tmp_path / "out", "--play")
    assert "nothing can be played" in fails("sample", run, "--play")  # neither the extra nor a device is there
