"""Prepares a folder of sounds: decodes it to shards, in parallel, interruptibly and reproducibly."""

import importlib.util
import os
import shutil
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavesynth.audio.conversion import TRAITS
from wavesynth.audio.files import check_sample_rate
from wavesynth.audio.names import display, user_path
from wavesynth.audio.pitch import check_available
from wavesynth.data.clips import make_clips
from wavesynth.data.corpus import Corpus, scan
from wavesynth.data.decoding import decode_all
from wavesynth.data.journal import JOURNAL, Outcome
from wavesynth.data.majority import choose, read_headers
from wavesynth.data.partial import INSIDE, Partial, partial_folder
from wavesynth.data.report import PitchReport, Report, duration
from wavesynth.data.shards import MANIFEST, REPORT, ClipRecord, Manifest, Shards, is_shard_name
from wavesynth.data.sources import SOURCES, digests, fingerprint, read_seen
from wavesynth.errors import UserError
from wavesynth.progress import Progress
from wavesynth.storage import DISK_FULL

__all__ = ["Report", "prepare"]

_SYSTEM = (".DS_Store", "Thumbs.db", "desktop.ini", "lost+found")
"""Files that file managers and filesystems create."""
_OWN = (MANIFEST, REPORT, SOURCES, JOURNAL, INSIDE, *_SYSTEM)
_DEFAULTS = {"channels": 1, "track_pitch": False, "labels": True, "pitches": True, "middle_c": "C4"}


def prepare(
    folder: str | os.PathLike[str],
    shards: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    mono: bool = False,
    valid: float = 0.1,
    test: float = 0.1,
    labels: bool = True,
    pitches: bool = True,
    middle_c: str = "C4",
    track_pitch: bool = False,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> Report:
    """Decodes a folder of sounds to shards for training. The folder itself is not changed.

    `wavesynth.data.corpus` describes which files are used, and their labels, pitches and splits; `wavesynth.audio.conversion`
    describes how channels, levels, DC offsets and damaged files are treated. The result depends only on the sounds and the
    settings. If interrupted, the same call continues. If finished, the same call only checks whether the folder has changed.

    Args:
        folder: the folder of sounds, which may be nested.
        shards: the folder to write to, outside of `folder`.
        sample_rate: Hz, 1,000 to 768,000; None for the rate that most of the files have, at most 48,000 Hz. Of two rates with
            as many files, the higher one is taken.
        mono: mix all sounds to one channel. Otherwise the shards are stereo if over half of the files have two or more
            channels.
        valid: fraction of the clips held out for validation, in [0, 1).
        test: fraction of the clips held out for testing, in [0, 1).
        labels: whether to take labels from folders and metadata.csv.
        pitches: whether to take pitches from file names and metadata.csv.
        middle_c: the name of middle C (MIDI note 60) in file names: "C3", "C4" or "C5".
        track_pitch: track the pitch of clips without one, in their first seconds (extra `pitch`).
        workers: number of files to decode in parallel; None for one per processor.
        force: replace existing shards once the new ones are complete.
        progress: show progress on stderr.

    Returns:
        A report of the files that were used, and of those that were refused, with reasons; also in `SHARDS/report.json`.

    Raises:
        UserError: an argument is invalid, there are no usable sounds, over half of the files were refused, different shards
            exist already, or the disk is full.

    >>> report = prepare("sounds/", "shards-8k/", sample_rate=8_000, progress=False)
    >>> report.taken > 0, report.sample_rate
    (True, 8000)
    """
    if sample_rate is not None:
        check_sample_rate(sample_rate)
    _check_shares(valid, test)
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers}: give 1 or more, or nothing for one per processor")
    if track_pitch:
        if not pitches:
            raise UserError("track_pitch=True and pitches=False contradict each other: give one of them")
        check_available()
    target = user_path(shards)
    if target.is_symlink() or target.name in ("", ".."):
        target = target.resolve()  # the unfinished folder is beside the real one
    folder = user_path(folder)
    _check_places(folder, target)
    corpus = scan(folder, labels=labels, pitches=pitches, middle_c=middle_c)
    if not corpus.files and not corpus.refused:
        left = f" ({sum(corpus.ignored.values())} other entries)" if corpus.ignored else ""
        raise UserError(
            f"{display(folder)} holds no sound files{left}; give a folder with wav, flac, ogg, mp3, aiff ..."
        )
    # Refused files are tried again once PyAV is installed, because it reads more formats.
    formats = importlib.util.find_spec("av") is not None
    workers = workers or os.cpu_count() or 1
    chosen, channels = _form(corpus, sample_rate, mono, workers)
    settings = {"sample_rate": chosen, "channels": channels, "valid": float(valid), "test": float(test)}
    settings |= {
        "formats": formats,
        "labels": bool(labels),
        "pitches": bool(pitches),
        "middle_c": middle_c,
        "track_pitch": bool(track_pitch),
    }
    names = os.listdir(target) if target.exists() else []
    finished, occupied = MANIFEST in names, any(name not in _SYSTEM for name in names)
    if occupied and (force or not finished):
        _check_replaceable(target)
    if occupied and not force and (finished or INSIDE not in names):
        report = _up_to_date(target, settings, corpus)
        _say(progress, f"{display(target)} is up to date")
        return report
    return _make(corpus, target, settings, workers, progress)


def _form(corpus: Corpus, sample_rate: int | None, mono: bool, workers: int) -> tuple[int, int]:
    """The sample rate in Hz and the number of channels of the shards. Reads headers only if they decide."""
    if sample_rate is not None and mono:
        return int(sample_rate), 1
    found = choose(read_headers(corpus.root, corpus.files, workers))
    return found[0] if sample_rate is None else int(sample_rate), 1 if mono else found[1]


def _check_shares(valid: float, test: float) -> None:
    for name, share in (("valid", valid), ("test", test)):
        if not 0 <= share < 1:
            raise UserError(f"{name}={share}: give a fraction of the clips, at least 0 and below 1, such as 0.1")
    if valid + test >= 1:
        raise UserError(f"valid={valid} and test={test} leave nothing to train on: their sum must be below 1")


def _check_places(folder: Path, target: Path) -> None:
    """Raises UserError if the target is in the user's folder of sounds, or is a file."""
    inside, outside = folder.resolve(), target.resolve()
    if inside == outside or inside in outside.parents:
        raise UserError(f"{display(target)} is inside the folder of sounds: choose a folder outside of it")
    if target.exists() and not target.is_dir():
        raise UserError(f"{display(target)} is a file: choose another folder for the shards")


def _check_replaceable(target: Path) -> None:
    """Raises UserError unless the target is a folder of `prepare`, apart from files that file managers create."""
    for name in os.listdir(target):
        if name not in _OWN and not is_shard_name(name):
            raise UserError(
                f"{display(target)} holds {display(name)}, so it is not a shards folder: choose another folder"
            )


def _up_to_date(target: Path, settings: dict[str, Any], corpus: Corpus) -> Report:
    """The report of finished shards. Raises UserError unless they match this folder and these settings."""
    if not (target / MANIFEST).exists():
        raise UserError(f"{display(target)} holds no complete shards: give --force (force=True) to replace it")
    manifest = Shards.open(target).manifest
    then = _DEFAULTS | manifest.settings
    differ = [name for name in settings if then.get(name) != settings[name]]
    if differ:
        what = [f"{name} {then.get(name)} (now {settings[name]})" for name in differ]
        why = f"was prepared with {display(', '.join(what))}"
    elif manifest.source != fingerprint(corpus, digests(corpus.root, corpus.files, read_seen(target / SOURCES))):
        why = "was prepared from other sounds, or they changed since"
    else:
        try:
            (target / JOURNAL).unlink(missing_ok=True)  # a run was killed between its last two steps
            return Report.from_json((target / REPORT).read_text(encoding="ascii"), status="up to date")
        except (OSError, ValueError):
            why = "has lost its report"
    raise UserError(
        f"{display(target)} exists and {why}: choose another folder, or give --force (force=True) to replace it"
    )


def _make(corpus: Corpus, target: Path, settings: dict[str, Any], workers: int, progress: bool) -> Report:
    partial = None
    try:
        decoding = {name: settings[name] for name in ("sample_rate", "formats")}
        with Partial(target, decoding, corpus, settings["channels"]) as partial:
            done = len(partial.outcomes)
            if not partial.locked:
                _say(
                    progress,
                    "this filesystem has no locks: do not run prepare twice on the same shards at the same time",
                )
            if partial.discarded:
                _say(progress, f"starting over after an interrupted run: {partial.discarded}")
            if done:
                _say(progress, f"continuing an interrupted run: {done:,} of {len(corpus.files):,} files are done")
            _decode_all(corpus, partial, settings, workers, progress)
            clips, pitches, remarks = make_clips(corpus, partial, settings, progress)
            report = _report(corpus, partial, clips, pitches, remarks, settings)
            _check_refusals(report, corpus, partial, target)
            labels = tuple(sorted({clip.label for clip in clips if clip.label is not None}))
            source = fingerprint(corpus, [outcome.digest for outcome in partial.outcomes])
            manifest = Manifest(
                settings["sample_rate"], labels, settings, source, partial.files, tuple(clips), settings["channels"]
            )
            partial.finish(manifest, report)
            _refusals_file(target).unlink(missing_ok=True)
            return replace(report, status="continued" if done else "made")
    except OSError as error:
        raise _unwritable(error, target, corpus, partial) from None
    except KeyboardInterrupt:
        kept = len(partial.outcomes) if partial else 0
        _say(progress, f"stopped: {kept:,} of {len(corpus.files):,} files are kept, the same command continues")
        raise


def _decode_all(corpus: Corpus, partial: Partial, settings: dict[str, Any], workers: int, progress: bool) -> None:
    """Decodes and records the remaining files."""
    sample_rate, channels = settings["sample_rate"], settings["channels"]
    done = len(partial.outcomes)
    num_samples = sum(outcome.length for outcome in partial.outcomes)
    bar = Progress(len(corpus.files), "file", "prepare", initial=done, shown=progress)
    rest = decode_all(corpus.root, corpus.files[done:], sample_rate, channels, workers, partial.folder)
    with bar, closing(rest):
        for decoded in rest:
            source, spool, origin = decoded.source, decoded.spool, decoded.origin
            outcome = Outcome(source.file, source.size, source.mtime_ns, decoded.digest, decoded.refused)
            if spool is None or origin is None:
                partial.record(outcome)
            else:
                outcome = replace(
                    outcome, warnings=origin.warnings, sample_rate=origin.sample_rate, channels=origin.channels,
                    sha256=spool.sha256, sound=spool.activity.ranges(), traits=origin.traits,
                )  # fmt: skip
                partial.record(outcome, spool.file, spool.num_samples)
            num_samples += partial.outcomes[-1].length
            bar.update(note=f"{duration(num_samples / sample_rate)} of sound")


def _report(
    corpus: Corpus,
    partial: Partial,
    clips: list[ClipRecord],
    pitches: PitchReport,
    remarks: list[str],
    settings: dict[str, Any],
) -> Report:
    sample_rate = settings["sample_rate"]
    outcomes = partial.outcomes
    taken = [outcome for outcome in outcomes if outcome.length]
    length = sum(clip.length for clip in clips)
    sounding = sum(end - begin for clip in clips for begin, end in clip.sound)
    return Report(
        taken=len(taken),
        refused=tuple(sorted([*corpus.refused, *((o.file, o.refused) for o in outcomes if o.refused)])),
        warned=(*corpus.warned, *((o.file, warning) for o in outcomes for warning in o.warnings)),
        duplicates=tuple((o.file, o.duplicate_of) for o in outcomes if o.duplicate_of),
        ignored=corpus.ignored,
        labels=dict(sorted(Counter(clip.label or "" for clip in clips).items())),
        splits=dict(Counter(clip.split for clip in clips)),
        seconds=length / sample_rate,
        silence=(length - sounding) / sample_rate,
        sample_rate=sample_rate,
        channels=settings["channels"],
        rates=dict(sorted(Counter(outcome.sample_rate for outcome in taken).items())),
        widths=dict(sorted(Counter(outcome.channels for outcome in taken).items())),
        traits={trait: files for trait in TRAITS if (files := tuple(o.file for o in taken if trait in o.traits))},
        pitches=pitches,
        remarks=(*corpus.remarks, *remarks),
    )


def _check_refusals(report: Report, corpus: Corpus, partial: Partial, target: Path) -> None:
    """Raises UserError if most files were refused, after writing the list of reasons: the folder is probably wrong."""
    num_files = len(corpus.files) + len(corpus.refused)
    if report.taken and 2 * len(report.refused) <= num_files:
        return
    path = _refusals_file(target)
    path.write_text(report.to_json(), encoding="ascii")
    partial.discard()
    first = "; ".join(f"{display(file)}: {reason}" for file, reason in report.refused[:3])
    many = f"{len(report.refused)} of {num_files} files were refused"
    raise UserError(f"{display(corpus.root)}: {many} ({first} ...); all reasons are in {display(path)}")


def _refusals_file(target: Path) -> Path:
    return target.with_name(target.name + ".report.json")


def _unwritable(error: OSError, target: Path, corpus: Corpus, partial: Partial | None) -> UserError:
    folder = partial_folder(target)
    if error.errno not in DISK_FULL:
        return UserError(
            f"{display(error.filename or folder)} cannot be written: {error.strerror}; choose another folder"
        )
    done = partial.outcomes if partial else []
    # Estimate the remaining space from the finished files, in proportion to their sizes.
    read, written = sum(outcome.size for outcome in done), 2 * sum(outcome.length for outcome in done)
    rest = sum(source.size for source in corpus.files) - read
    need = rest * written / read if written else rest
    free = shutil.disk_usage(folder if folder.exists() else target.parent).free
    return UserError(
        f"the disk of {display(target)} is full: about {need / 1e6:,.1f} MB more are needed, {free / 1e6:,.1f} MB are "
        f"free; {len(done):,} of {len(corpus.files):,} files are kept in {display(folder)}; free some space and run it again"
    )


def _say(progress: bool, text: str) -> None:
    if progress:
        print(text, file=sys.stderr)
