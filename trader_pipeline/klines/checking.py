"""What is wrong with a candle file, or with the files of a market together: behind `trader-pipeline klines check`.

Belongs here: which files are judged, alone and together. Does not belong here: finding what is wrong with rows
(`klines.examination`), the report's wording (`klines.file_report`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from trader_pipeline.klines.examination import EXAMPLES, Examination
from trader_pipeline.klines.file_report import FileReport
from trader_pipeline.klines.files import KlineFileError, find_kline_files, load_kline_file
from trader_pipeline.schema import TIMEFRAMES


def check_kline_file(
    path: str | Path, *, timeframe: str | None = None, as_of: pd.Timestamp | None = None
) -> FileReport:
    """Look through one candle file of any format that `klines.files` reads and report all that is found.

    `timeframe` (such as `1h`) is needed where the file's name states no market, and wins over the name. `as_of` (UTC)
    is the moment at which every candle must have closed; None takes all as closed. Nothing is raised for what is in the
    file: one that cannot be read at all is a report with `unreadable`.

    Raises:
        ValueError: unknown `timeframe`.
    """
    return _checked(Path(path), timeframe, as_of)[0]


def check_kline_folder(
    folder: str | Path, *, timeframe: str | None = None, as_of: pd.Timestamp | None = None
) -> list[FileReport]:
    """`check_kline_file` for each candle file of `folder`, then a verdict on each market that has several files.

    Import reads all files of a market together: there rows of one time in two files may differ or repeat each other.

    Raises:
        KlineFileError: no candle file in `folder`.
        ValueError: unknown `timeframe`.
    """
    checked: dict[str, list[tuple[FileReport, Examination | None]]] = {}
    for file in find_kline_files(folder):
        checked.setdefault(file.market.key, []).append(_checked(file.path, timeframe, as_of))
    files = [report for pairs in checked.values() for report, _ in pairs]
    markets = [_verdict(Path(folder), key, pairs) for key, pairs in checked.items() if len(pairs) > 1]
    return sorted(files, key=lambda report: report.path) + markets


def _checked(
    path: Path, timeframe: str | None, as_of: pd.Timestamp | None
) -> tuple[FileReport, Examination | None]:
    """The report on one file and, where it can be read, its rows as they were examined."""
    if timeframe is not None and timeframe not in TIMEFRAMES:
        raise ValueError(f"unknown timeframe {timeframe!r}; known: {', '.join(TIMEFRAMES)}")
    try:
        market, timeframe = _recognised(path, timeframe)
        raw, format_name = load_kline_file(path)
    except KlineFileError as error:
        return FileReport(path=str(path), unreadable=str(error)), None
    examined = Examination(raw, TIMEFRAMES[timeframe])
    examined.read(as_of)
    report = FileReport(
        path=str(path), format=format_name, market=market, timeframe=timeframe, **examined.findings()
    )
    return report, examined


def _verdict(folder: Path, key: str, pairs: list[tuple[FileReport, Examination | None]]) -> FileReport:
    """The report on the files of one market read together."""
    files = tuple(report.path for report, _ in pairs)
    parts = [examined for _, examined in pairs if examined is not None]
    if len(parts) < len(pairs):
        unreadable = [Path(report.path).name for report, examined in pairs if examined is None]
        said = f"{len(unreadable)} of {len(files)} files cannot be read ({', '.join(unreadable[:EXAMPLES])})"
        return FileReport(path=str(folder), files=files, market=key, unreadable=said)
    timeframe = pairs[0][0].timeframe
    return FileReport(
        path=str(folder),
        files=files,
        market=pairs[0][0].market,
        timeframe=timeframe,
        **Examination.together(parts).findings(),
    )


def _recognised(path: Path, timeframe: str | None) -> tuple[str, str]:
    """Market key (empty where the name tells none) and timeframe."""
    if not path.is_file():
        raise KlineFileError(f"{path}: no such file")
    try:
        market = find_kline_files(path)[0].market
    except KlineFileError:
        if timeframe is None:
            raise KlineFileError(
                f"{path}: the name does not state coin, dollar and timeframe (such as BTCUSDT_1h.csv);"
                " say the timeframe with --timeframe"
            ) from None
        return "", timeframe
    timeframe = timeframe or market.timeframe
    return f"{market.underlying}_{timeframe}", timeframe
