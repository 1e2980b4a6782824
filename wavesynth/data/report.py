"""The report of `prepare`: a table for the screen, and JSON beside the shards."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wavesynth import strict_json
from wavesynth.audio.conversion import INVERTED, OFFSET, SILENT, SURROUND
from wavesynth.audio.names import display
from wavesynth.data.majority import rate_for
from wavesynth.data.splits import SPLITS

_SHOWN = 10
"""Lines of each list on screen; the JSON has all of them."""
_EXAMPLES = 3
_FULL_BAND = 44_100
"""Hz. At this rate nothing that people hear is lost."""
_WIDTHS = {1: "mono", 2: "stereo", SURROUND: "six-channel"}
_SOURCES = {"name": "from names", "metadata": "from metadata.csv", "tracked": "tracked"}


@dataclass(frozen=True)
class PitchReport:
    """The pitches of the clips.

    Attributes:
        counts: clips by the source of their pitch: "name", "metadata" or "tracked".
        lowest: MIDI note number; NaN without pitches.
        highest: MIDI note number; NaN without pitches.
        examples: (file, pitch, source), some of each source.
    """

    counts: dict[str, int]
    lowest: float
    highest: float
    examples: tuple[tuple[str, float, str], ...]

    @classmethod
    def of(cls, pitches: Sequence[tuple[str, float, str]]) -> "PitchReport":
        """Counts (file, pitch, source) of each clip that has a pitch.

        >>> PitchReport.of([("a_C4.wav", 60.0, "name"), ("b_D4.wav", 62.0, "name")]).highest
        62.0
        """
        values = [pitch for _, pitch, _ in pitches]
        examples = [item for source in _SOURCES for item in [p for p in pitches if p[2] == source][:_EXAMPLES]]
        counts = dict(Counter(source for _, _, source in pitches))
        return cls(counts, min(values, default=math.nan), max(values, default=math.nan), tuple(examples))

    def __str__(self) -> str:
        parts = []
        for source, count in self.counts.items():
            shown = ", ".join(
                f"{display(file)}: {pitch:.4g}" for file, pitch, where in self.examples if where == source
            )
            parts.append(f"{count:,} {_SOURCES[source]} ({shown})")
        span = f"{self.lowest:.4g} to {self.highest:.4g}" if self.highest > self.lowest else f"all {self.lowest:.4g}"
        hint = "; if these are not pitches: --no-pitch (pitches=False)" if "name" in self.counts else ""
        return f"MIDI {span}: {'; '.join(parts)}{hint}" if parts else ""


@dataclass(frozen=True)
class Report:
    """The files that were used, and those that were refused, with reasons.

    File names are relative to the folder, as on disk. Use `display` to print them.

    Attributes:
        taken: number of files used.
        refused: (file, reason), sorted by file, as are the next two.
        warned: (file, text), for files that were used despite a problem.
        duplicates: (file, the used file with the same sound).
        ignored: number of ignored entries by kind.
        labels: number of clips by label; "" for no label.
        splits: number of clips in train, valid and test.
        seconds: length of the sounds used.
        silence: seconds of silence in them, over 50 dB below the loudest part of the clip.
        sample_rate: Hz, of the shards.
        channels: of the shards.
        rates: number of files by sample rate in Hz.
        widths: number of files by number of channels.
        traits: the files with each of `wavesynth.audio.conversion.TRAITS`, sorted.
        pitches: the pitches of the clips.
        remarks: remarks on the whole folder.
        status: "made", "continued" (from an interrupted run) or "up to date" (nothing was done); not part of the JSON.

    >>> from pathlib import Path
    >>> report = Report.from_json(Path("shards/report.json").read_text())
    >>> report.taken > 0
    True
    """

    taken: int
    refused: tuple[tuple[str, str], ...]
    warned: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    ignored: dict[str, int]
    labels: dict[str, int]
    splits: dict[str, int]
    seconds: float
    silence: float
    sample_rate: int
    channels: int
    rates: dict[int, int]
    widths: dict[int, int]
    traits: dict[str, tuple[str, ...]]
    pitches: PitchReport
    remarks: tuple[str, ...] = ()
    status: str = "made"

    def to_json(self) -> str:
        """The report as JSON in ASCII, one item per line."""
        record = dataclasses.asdict(self)
        del record["status"]
        for name in ("lowest", "highest"):
            if math.isnan(record["pitches"][name]):
                record["pitches"][name] = None
        return json.dumps(record, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, status: str = "made") -> "Report":
        """The inverse of `to_json`.

        Raises:
            ValueError: the text is not a report.
        """
        try:
            record = strict_json.parse(text.encode())
            pitches = record["pitches"]
            span = [math.nan if pitches[name] is None else float(pitches[name]) for name in ("lowest", "highest")]
            examples = tuple((str(file), float(pitch), str(source)) for file, pitch, source in pitches["examples"])
            counts = {source: int(pitches["counts"][source]) for source in pitches["counts"] if source in _SOURCES}
            values: dict[str, Any] = {name: int(record[name]) for name in ("taken", "sample_rate", "channels")}
            values |= {name: float(record[name]) for name in ("seconds", "silence")}
            values |= {name: _pairs(record[name]) for name in ("refused", "warned", "duplicates")}
            values |= {name: _counted(record[name]) for name in ("ignored", "labels", "splits")}
            values |= {name: {int(k): v for k, v in _counted(record[name]).items()} for name in ("rates", "widths")}
            values |= {"traits": {str(k): tuple(map(str, v)) for k, v in record.get("traits", {}).items()}}
            values |= {"pitches": PitchReport(counts, span[0], span[1], examples)}
            return cls(**values, remarks=tuple(map(str, record["remarks"])), status=status)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a report ({str(error)[:80]})") from None

    def __str__(self) -> str:
        splits = ", ".join(f"{name} {self.splits.get(name, 0):,}" for name in SPLITS)
        rows = [
            ("taken", f"{_files(self.taken)}, {duration(self.seconds)} ({self.status})"),
            ("clips", splits),
            ("labels", _counts(self.labels) if any(self.labels) else ""),
            ("pitches", str(self.pitches)),
            ("silence", f"{self.silence / self.seconds:.0%} of the sound" if self.seconds else ""),
            ("rate", _rate(self.rates, self.sample_rate)),
            *(("", line) for line in _resampled(self.rates, self.sample_rate)),
            ("channels", _channels(self.widths, self.channels)),
            *(("", line) for line in _mixed(self.widths, self.channels)),
            *(("", line) for line in _traits(self.traits, self.channels)),
            ("refused", _files(len(self.refused))),
            ("duplicates", _files(len(self.duplicates))),
            ("ignored", _counts(self.ignored)),
        ]
        lines = [f"{name:<12}{text}" for name, text in rows if text]
        lines += [f"{'note':<12}{display(remark)}" for remark in self.remarks]
        lines += _section("refused", self.refused)
        lines += _section("taken, with a warning", self.warned)
        lines += _section("duplicates", ((file, f"same sound as {display(first)}") for file, first in self.duplicates))
        return "\n".join(lines)


def duration(seconds: float) -> str:
    """A length of sound for people to read.

    >>> duration(1.5), duration(90), duration(7_260)
    ('1.5 s', '1 min 30 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _pairs(items: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((str(file), str(what)) for file, what in items)


def _counted(counts: Mapping[Any, Any]) -> dict[Any, int]:
    return {str(name): int(count) for name, count in counts.items()}


def _files(count: int, what: str = "file") -> str:
    return "" if count == 0 else f"1 {what}" if count == 1 else f"{count:,} {what}s"


def _counts(counts: dict[str, int]) -> str:
    most = Counter(counts).most_common(_SHOWN)
    text = ", ".join(f"{display(name) or '(none)'} {count:,}" for name, count in most)
    return text + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")


def _rate(rates: dict[int, int], sample_rate: int) -> str:
    """A line about the sample rate, and how many files have it."""
    own, total = rates.get(sample_rate, 0), sum(rates.values())
    higher = sum(count for rate, count in rates.items() if rate > sample_rate and rate_for(rate) == sample_rate)
    parts = [f"{sample_rate:,} Hz"]
    if own:
        parts.append(f"the rate of {own:,} of {_files(total)}")
    elif higher:
        parts.append(f"for {higher:,} of {_files(total)} at a multiple of it")
    elif total:
        parts.append(f"the rate of none of {_files(total)}")
    return ", ".join(parts) + (f"; {total - own:,} converted" if own < total else "")


def _resampled(rates: dict[int, int], sample_rate: int) -> Iterator[str]:
    """Lines about files with higher and with lower sample rates."""
    higher = {rate: count for rate, count in sorted(rates.items()) if rate > sample_rate}
    if higher:
        hint = "; a higher --sample-rate keeps more" if sample_rate < min(_FULL_BAND, *higher) else ""
        files = ", ".join(f"{_files(count)} of {rate:,} Hz" for rate, count in higher.items())
        yield f"{files} converted down: frequencies above {sample_rate // 2:,} Hz are lost{hint}"
    for rate, count in sorted(rates.items()):
        if rate < sample_rate:
            whose = "its" if count == 1 else "their"
            yield f"{_files(count)} of {rate:,} Hz converted up: {whose} sound ends at {rate // 2:,} Hz"


def _channels(widths: dict[int, int], channels: int) -> str:
    """A line about the number of channels, and how many files have it."""
    return f"{_WIDTHS.get(channels, channels)}, as {widths.get(channels, 0):,} of {_files(sum(widths.values()))}"


def _mixed(widths: dict[int, int], channels: int) -> Iterator[str]:
    """Lines about files with other numbers of channels."""
    into = _WIDTHS.get(channels, f"{channels} channels")
    for width, count in sorted(widths.items()):
        files = _files(count, f"{_WIDTHS.get(width, f'{width}-channel')} file")
        if width == 1 < channels:
            yield f"{files} copied to both channels, at the same level"
        elif width == SURROUND and channels <= 2:
            yield f"{files} folded down from 5.1 to {into}: L + 0.707 C + 0.707 Ls, likewise right, without LFE"
        elif width != channels:
            yield f"{files} mixed to {into}: the mean of {'both' if width == 2 else 'all'} channels"


def _traits(traits: dict[str, tuple[str, ...]], channels: int) -> Iterator[str]:
    """Lines about silent and inverted channels and DC offsets, with some names."""
    mono = channels == 1
    meanings = {
        SILENT: "with a silent channel" + (", mixed to half their level" if mono else ""),
        INVERTED: "with inverted channels, "
        + ("which cancel in mono: the louder channel is used" if mono else "which vanish when they are played in mono"),
        OFFSET: "with a DC offset above -40 dBFS, which was removed",
    }
    for trait, meaning in meanings.items():
        if files := traits.get(trait, ()):
            names = ", ".join(map(display, files[:_EXAMPLES])) + (", ..." if len(files) > _EXAMPLES else "")
            yield f"{_files(len(files))} {meaning} ({names})"


def _section(title: str, items: Iterable[tuple[str, str]]) -> list[str]:
    items = tuple(items)
    lines = [f"  {display(file)}: {display(what)}" for file, what in items[:_SHOWN]]
    if len(items) > _SHOWN:
        lines.append(f"  and {len(items) - _SHOWN:,} more, all in report.json")
    return [f"{title}:", *lines] if lines else []
