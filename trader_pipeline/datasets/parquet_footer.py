"""Footers of Parquet files: read, moved and joined, so that row groups written apart become one file.

Belongs here: the few parts of the format that this needs. A Parquet file is `PAR1`, the row groups' pages, the footer,
the footer's length in four bytes, `PAR1`; the footer is a Thrift struct (compact protocol) that holds the pages' places
in the file. Source: github.com/apache/parquet-format, `parquet.thrift`, and Thrift's `thrift-compact-protocol.md`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

MAGIC = b"PAR1"
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]
"""Fields of a Thrift struct: id to (type, value). A list is (type of its elements, values)."""

# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData: the fields that are places in the file or counts of rows.
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS, _GROUP_OFFSET, _ORDINAL = 1, 5, 7
_CHUNK_OFFSET, _META_DATA = 2, 3
_PAGE_OFFSETS = (9, 10, 11)
_CHUNK_EXTRAS, _META_EXTRAS = (4, 6), (14,)
"""Places of page indexes and bloom filters, which lie before the footer: files that have them are refused."""


def split_file(data: bytes) -> tuple[bytes, Struct]:
    """A Parquet file's pages (without `PAR1`) and its footer."""
    (length,) = struct.unpack("<I", data[-8:-4])
    if data[:4] != MAGIC or data[-4:] != MAGIC:
        raise ValueError("not a Parquet file: it does not begin and end with PAR1")
    return data[4 : -8 - length], read_struct(data[-8 - length : -8])


def joined_footer(footers: Sequence[tuple[int, Struct]]) -> bytes:
    """The end of a file that holds the pages of several files of one schema: footer, length, `PAR1`.

    `footers` are each file's footer and how many bytes its pages stand further back than in their own file. The first
    one's schema and metadata become the whole's.
    """
    whole = dict(footers[0][1])
    kind, _ = whole[_ROW_GROUPS][1]
    groups = [_moved(g, by) for by, footer in footers for g in footer[_ROW_GROUPS][1][1]]
    for number, group in enumerate(groups):
        if _ORDINAL in group:
            group[_ORDINAL] = (_I16, number)
    whole[_ROW_GROUPS] = (_LIST, (kind, groups))
    whole[_NUM_ROWS] = (_I64, sum(footer[_NUM_ROWS][1] for _, footer in footers))
    data = write_struct(whole)
    return data + struct.pack("<I", len(data)) + MAGIC


def _moved(group: Struct, by: int) -> Struct:
    kind, columns = group[_COLUMNS][1]
    moved = dict(_shifted(group, (_GROUP_OFFSET,), by))
    moved[_COLUMNS] = (_LIST, (kind, [_moved_column(c, by) for c in columns]))
    return moved


def _moved_column(column: Struct, by: int) -> Struct:
    meta = column[_META_DATA][1]
    if any(f in column for f in _CHUNK_EXTRAS) or any(f in meta for f in _META_EXTRAS):
        raise ValueError(
            "a Parquet file with page indexes or bloom filters cannot be joined; write it without"
        )
    moved = _shifted(column, (_CHUNK_OFFSET,), by)
    moved[_META_DATA] = (_STRUCT, _shifted(meta, _PAGE_OFFSETS, by))
    return moved


def _shifted(fields: Struct, places: Sequence[int], by: int) -> Struct:
    """The fields with those that are places moved; 0 says that there is none."""
    return {
        number: (kind, value + by) if number in places and value > 0 else (kind, value)
        for number, (kind, value) in fields.items()
    }


def read_struct(data: bytes) -> Struct:
    """A struct in Thrift's compact protocol."""
    return _Reader(data).struct()


def write_struct(fields: Struct) -> bytes:
    """The same as bytes. Reading and writing give the same bytes again."""
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self) -> Struct:
        fields: Struct = {}
        number = 0
        while (head := self._byte()) != 0:
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            fields[number] = (kind, self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _BINARY:
            return self._take(self._unsigned())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            return self._list()
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        raise ValueError(f"a Parquet footer with a field of Thrift type {kind}, which none is known to have")

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._unsigned()
        kind = head & 15
        if kind in (_TRUE, _FALSE):
            return kind, [self._byte() == _TRUE for _ in range(count)]
        return kind, [self._value(kind) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number, (kind, value) in sorted(fields.items()):
        kind = (_TRUE if value else _FALSE) if kind in (_TRUE, _FALSE) else kind
        if 0 < number - last <= 15:
            out.append((number - last) << 4 | kind)
        else:
            out.append(kind)
            _write_signed(out, number)
        _write_value(out, kind, value)
        last = number
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (_I16, _I32, _I64):
        _write_signed(out, value)
    elif kind == _BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind in (_LIST, _SET):
        _write_list(out, *value)
    elif kind == _BYTE:
        out.append(value)
    elif kind == _DOUBLE:
        out += value


def _write_list(out: bytearray, kind: int, values: list[Any]) -> None:
    if len(values) < 15:
        out.append(len(values) << 4 | kind)
    else:
        out.append(15 << 4 | kind)
        _write_unsigned(out, len(values))
    for value in values:
        if kind in (_TRUE, _FALSE):
            out.append(_TRUE if value else _FALSE)
        else:
            _write_value(out, kind, value)


def _write_unsigned(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_signed(out: bytearray, value: int) -> None:
    _write_unsigned(out, value << 1 ^ value >> 63)
