"""A folder of sounds → a folder of shards: decoded in parallel, written in order, interruptible and repeatable."""

import errno
import importlib.util
import os
import shutil
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from wavesynth.audio import pitch as pitches
from wavesynth.audio.files import check_sample_rate
from wavesynth.audio.names import display
from wavesynth.audio.pcm import to_float
from wavesynth.data.corpus import Corpus, scan
from wavesynth.data.decoding import decode_all
from wavesynth.data.partial import JOURNAL, Outcome, Partial, partial_folder
from wavesynth.data.report import Report, duration
from wavesynth.data.shards import MANIFEST, REPORT, ClipRecord, Manifest, Shards, is_shard_name
from wavesynth.data.splits import assign
from wavesynth.errors import UserError

__all__ = ["Report", "prepare"]

_OWN = (MANIFEST, REPORT, JOURNAL, ".DS_Store", "Thumbs.db", "desktop.ini")
TRACKED_SECONDS = 4.0  # of a clip in which its pitch is looked for
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(
    folder: str | os.PathLike[str],
    shards: str | os.PathLike[str],
    *,
    sample_rate: int = 16_000,
    valid: float = 0.1,
    test: float = 0.1,
    track_pitch: bool = False,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
) -> Report:
    """Decodes a folder of sounds into shards that training reads. The folder itself is not changed.

    What is taken, and as what, is told in `wavesynth.data.corpus` (files, labels, pitches), `wavesynth.audio.files`
    (levels and damage) and `wavesynth.data.splits`. The result depends on the sounds and the settings alone. An
    interrupted run leaves `SHARDS.partial`, from which the same call goes on. After a finished one the same call only
    looks whether the folder changed.

    Args:
        folder: the sounds, nested as they are.
        shards: the folder to make, outside of `folder`.
        sample_rate: Hz, 1,000 to 768,000.
        valid: share of the clips kept for validation, in [0, 1).
        test: share of the clips kept for testing, in [0, 1).
        track_pitch: for single notes whose names tell no pitch: it is heard in their first seconds (extra `pitch`).
        workers: files decoded at the same time; None means one per processor.
        force: replaces shards that are there, once the new ones are complete.
        progress: shows a bar and what is going on, on stderr.

    Returns:
        What was taken, and file by file what was refused and why; also in `SHARDS/report.json`.

    Raises:
        UserError: an argument is wrong, there is nothing to take, over half of the files were refused, shards are there
            already that are not these, or the disk is full.

    >>> print(prepare("sounds/", "shards/", sample_rate=16_000))            # doctest: +SKIP
    """
    check_sample_rate(sample_rate)
    _check_shares(valid, test)
    if workers is not None and workers < 1:
        raise UserError(f"workers={workers}: give 1 or more, or nothing for one per processor")
    if track_pitch:
        pitches.check_available()
    target = Path(shards)
    if target.is_symlink() or target.name in ("", ".."):
        target = target.resolve()  # the work is done beside the real folder
    _check_places(Path(folder), target)
    corpus = scan(folder)
    if not corpus.files and not corpus.refused:
        left = f" ({sum(corpus.ignored.values())} other entries)" if corpus.ignored else ""
        raise UserError(
            f"{display(folder)} holds no sound files{left}; give a folder with wav, flac, ogg, mp3, aiff ..."
        )
    # PyAV decides which formats are read: once it is there, what was refused for the lack of it is worth another try.
    formats = importlib.util.find_spec("av") is not None
    settings = {"sample_rate": int(sample_rate), "valid": float(valid), "test": float(test), "formats": formats}
    settings |= {"track_pitch": bool(track_pitch)}
    if target.exists() and (force or not (target / MANIFEST).exists()):
        _check_replaceable(target)
    if target.exists() and any(target.iterdir()) and not force:
        report = _up_to_date(target, settings, corpus)
        _say(progress, f"{display(target)} is up to date")
        return report
    return _make(corpus, target, settings, workers or os.cpu_count() or 1, progress)


def _check_shares(valid: float, test: float) -> None:
    for name, share in (("valid", valid), ("test", test)):
        if not 0 <= share < 1:
            raise UserError(f"{name}={share}: give the share of the clips as a number from 0 up to 1, such as 0.1")
    if valid + test >= 1:
        raise UserError(f"valid={valid} and test={test} leave nothing to train on: give less than 1 together")


def _check_places(folder: Path, target: Path) -> None:
    """Nothing of the user's may be written over or into."""
    inside, outside = folder.resolve(), target.resolve()
    if inside == outside or inside in outside.parents:
        raise UserError(f"{display(target)} lies in the folder of sounds itself: give a place outside of it")
    if target.exists() and not target.is_dir():
        raise UserError(f"{display(target)} is a file: give the shards another place")


def _check_replaceable(target: Path) -> None:
    """Only what `prepare` has written may be replaced, and what file managers add to it."""
    for name in os.listdir(target):
        if name not in _OWN and not is_shard_name(name):
            raise UserError(f"{display(target)} holds {display(name)}, so it is no shards folder: give another place")


def _up_to_date(target: Path, settings: dict[str, Any], corpus: Corpus) -> Report:
    """The report of finished shards that are those of this folder and these settings; else UserError."""
    if not (target / MANIFEST).exists():
        raise UserError(f"{display(target)} holds no whole shards: give --force (force=True) to replace it")
    manifest = Shards.open(target).manifest
    then = {"track_pitch": False} | manifest.settings
    if other := [f"{name} {then.get(name)}" for name in settings if then.get(name) != settings[name]]:
        why = f"was made with {', '.join(other)}"
    elif manifest.source != corpus.fingerprint:
        why = "was made of other sounds, or they changed since"
    else:
        try:
            (target / JOURNAL).unlink(missing_ok=True)  # a run was killed between its last two steps
            return Report.from_json((target / REPORT).read_text(encoding="ascii"), status="up to date")
        except (OSError, ValueError, TypeError, KeyError):
            why = "has lost its report"
    raise UserError(f"{display(target)} exists and {why}: give another place, or --force (force=True) to replace it")


def _make(corpus: Corpus, target: Path, settings: dict[str, Any], workers: int, progress: bool) -> Report:
    partial = None
    try:
        decoding = {name: value for name, value in settings.items() if name != "track_pitch"}
        with Partial(target, decoding, corpus.files) as partial:
            done = len(partial.outcomes)
            if partial.discarded:
                _say(progress, f"work of an interrupted run is done again: {partial.discarded}")
            if done:
                _say(progress, f"continuing an interrupted run: {done:,} of {len(corpus.files):,} files are done")
            _decode_all(corpus, partial, settings["sample_rate"], workers, progress)
            clips, remarks = _clips(corpus, partial, settings, progress)
            report = _report(corpus, partial, clips, remarks, settings["sample_rate"])
            _check_refusals(report, corpus, partial, target)
            labels = tuple(sorted({clip.label for clip in clips if clip.label is not None}))
            manifest = Manifest(
                settings["sample_rate"], labels, settings, corpus.fingerprint, partial.files, tuple(clips)
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


def _decode_all(corpus: Corpus, partial: Partial, sample_rate: int, workers: int, progress: bool) -> None:
    """Records what is not recorded yet."""
    from tqdm import tqdm

    done = len(partial.outcomes)
    num_samples = sum(outcome.length for outcome in partial.outcomes)
    bar = tqdm(total=len(corpus.files), initial=done, unit="file", desc="prepare", disable=not progress)
    rest = decode_all(corpus.root, corpus.files[done:], sample_rate, workers, partial.folder)
    with bar, closing(rest):
        for decoded in rest:
            source, spool = decoded.source, decoded.spool
            outcome = Outcome(source.file, source.size, source.mtime_ns, decoded.refused, warnings=decoded.warnings)
            if spool is None:
                partial.record(outcome)
            else:
                partial.record(replace(outcome, sha256=spool.sha256), spool.file, spool.num_samples)
            num_samples += partial.outcomes[-1].length
            bar.set_postfix_str(f"{duration(num_samples / sample_rate)} of sound", refresh=False)
            bar.update()


def _clips(
    corpus: Corpus, partial: Partial, settings: dict[str, Any], progress: bool
) -> tuple[list[ClipRecord], list[str]]:
    """The clips with their splits and pitches, and remarks on these."""
    taken = [(s, o) for s, o in zip(corpus.files, partial.outcomes) if o.length]
    hashes, wanted = [outcome.sha256 for _, outcome in taken], [source.split for source, _ in taken]
    splits, remarks = assign(hashes, wanted, settings["valid"], settings["test"]) if taken else ([], [])
    clips = [
        ClipRecord(s.file, s.label, s.pitch, split, o.shard, o.offset, o.length, o.sha256)
        for (s, o), split in zip(taken, splits)
    ]
    if settings["track_pitch"]:
        clips, remark = _tracked(clips, partial, settings["sample_rate"], progress)
        remarks = [*remarks, *remark]
    if len(clips) == 1 and settings["valid"]:
        (clip,) = clips
        begin = clip.length - max(1, clip.length // 10)
        parts = (("train", 0, begin), ("valid", begin, clip.length))
        clips = [replace(clip, split=name, offset=clip.offset + a, length=b - a) for name, a, b in parts]
        clips = [replace(part, sha256=partial.digest(part.shard, part.offset, part.length)) for part in clips]
        remarks = [*remarks, "there is one clip only: its last tenth is for validation"]
    return clips, remarks


def _tracked(
    clips: list[ClipRecord], partial: Partial, sample_rate: int, progress: bool
) -> tuple[list[ClipRecord], list[str]]:
    """The clips with the pitches that are heard in those of unknown pitch, and a remark on how many those are, if any."""
    from tqdm import tqdm

    unknown = [index for index, clip in enumerate(clips) if clip.pitch is None]
    if not unknown:
        return clips, []
    clips = list(clips)
    for index in tqdm(unknown, unit="clip", desc="pitch", disable=not progress):
        clip = clips[index]
        heard = partial.samples(clip.shard, clip.offset, min(clip.length, round(TRACKED_SECONDS * sample_rate)))
        clips[index] = replace(clip, pitch=pitches.median_pitch(to_float(heard), sample_rate))
    deaf = sum(clips[index].pitch is None for index in unknown)
    return clips, [f"pitches were heard in {len(unknown) - deaf} of the {len(unknown)} clips whose names tell none"]


def _report(corpus: Corpus, partial: Partial, clips: list[ClipRecord], remarks: list[str], sample_rate: int) -> Report:
    outcomes = partial.outcomes
    return Report(
        taken=sum(outcome.length > 0 for outcome in outcomes),
        refused=tuple(sorted([*corpus.refused, *((o.file, o.refused) for o in outcomes if o.refused)])),
        warned=(*corpus.warned, *((o.file, warning) for o in outcomes for warning in o.warnings)),
        duplicates=tuple((o.file, o.duplicate_of) for o in outcomes if o.duplicate_of),
        ignored=corpus.ignored,
        labels=dict(sorted(Counter(clip.label or "" for clip in clips).items())),
        splits=dict(Counter(clip.split for clip in clips)),
        seconds=sum(clip.length for clip in clips) / sample_rate,
        sample_rate=sample_rate,
        remarks=tuple(remarks),
    )


def _check_refusals(report: Report, corpus: Corpus, partial: Partial, target: Path) -> None:
    """Most of a folder refused is a mistake rather than a result: nothing is made of it but the list of reasons."""
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
    if error.errno not in _FULL:
        return UserError(f"{display(error.filename or folder)} cannot be written: {error.strerror}; give another place")
    done = partial.outcomes if partial else []
    # What is left will need what was needed so far in proportion to the bytes of the files.
    read, written = sum(outcome.size for outcome in done), 2 * sum(outcome.length for outcome in done)
    rest = sum(source.size for source in corpus.files) - read
    need = rest * written / read if written else rest
    free = shutil.disk_usage(target.parent).free
    return UserError(
        f"the disk of {display(target)} is full: about {need / 1e6:,.1f} MB more are needed, {free / 1e6:,.1f} MB are "
        f"free; {len(done):,} of {len(corpus.files):,} files are kept in {display(folder)}; make room and run it again"
    )


def _say(progress: bool, text: str) -> None:
    if progress:
        print(text, file=sys.stderr)
