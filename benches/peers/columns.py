"""Columns of synthetic events, vectorised and the same for the same seed."""

import numpy as np
import pyarrow as pa

CROCKFORD = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", dtype=np.uint8)
HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
DIGITS = np.frombuffer(b"0123456789", dtype=np.uint8)

COUNTRIES = ["DE", "FR", "IT", "ES", "PL", "NL", "BE", "AT", "CZ", "PT", "SE", "DK", "FI", "NO", "IE", "CH"]
KINDS = ["click", "scroll", "search", "login", "order"]
# `#` becomes a digit, `%` a hex digit, `@` a letter of the kind of event; 120 bytes.
PAYLOAD = (
    '{"kind":"@@@@@@","session":"%%%%%%%%%%%%","ms":#####,"ok":true,'
    '"device":{"os":"linux","app":"4.##.#"},"ref":"/p/######"}'
)


def fixed_strings(matrix):
    """The rows of a matrix of bytes as strings."""
    rows, width = matrix.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(matrix)))


def timestamps(micros):
    return pa.array(micros, type=pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def ulids(random, micros):
    """26 bytes: ten of the time in milliseconds, sixteen at random."""
    rows = len(micros)
    text = np.empty((rows, 26), dtype=np.uint8)
    millis = micros // 1000
    for place in range(10):
        text[:, place] = CROCKFORD[(millis >> (5 * (9 - place))) & 31]
    text[:, 10:] = CROCKFORD[random.integers(0, 32, (rows, 16), dtype=np.uint8)]
    return fixed_strings(text)


def few_ids(random, rows, values):
    """26 bytes of which there are only so many values."""
    text = np.full((rows, 26), ord("0"), dtype=np.uint8)
    numbers = random.integers(0, values, rows)
    for place in range(3):
        text[:, 25 - place] = DIGITS[(numbers // 10**place) % 10]
    return fixed_strings(text)


def payloads(random, rows):
    template = np.frombuffer(PAYLOAD.encode(), dtype=np.uint8)
    text = np.tile(template, (rows, 1))
    for mark, letters in ((b"#", DIGITS), (b"%", HEX)):
        places = np.flatnonzero(template == mark[0])
        text[:, places] = letters[random.integers(0, len(letters), (rows, len(places)), dtype=np.uint8)]
    kinds = np.array([np.frombuffer(kind.ljust(6, "_").encode(), dtype=np.uint8) for kind in KINDS])
    text[:, np.flatnonzero(template == ord("@"))] = kinds[random.integers(0, len(kinds), rows)]
    return fixed_strings(text)


def choice(random, rows, values):
    """Strings of a few values, as plain strings."""
    indices = pa.array(random.integers(0, len(values), rows, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array(values)).cast(pa.string())


def pages(count):
    return [f"/shop/{number % 37}/article-{number * 7919 % 100_000:05d}.html" for number in range(count)]


def nullable_ints(random, rows, least, most, null_share=0.1):
    values = random.integers(least, most, rows, dtype=np.int32)
    return pa.array(values, mask=random.random(rows) < null_share)


def lists(random, rows):
    """Up to four small numbers each."""
    lengths = random.integers(0, 5, rows, dtype=np.int32)
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), np.cumsum(lengths, dtype=np.int32)])
    values = random.integers(0, 1_000, offsets[-1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def prices(random, rows):
    return pa.array(np.round(random.gamma(2.0, 20.0, rows), 2))


def events(random, micros, ids):
    rows = len(micros)
    return {
        "ts": timestamps(micros),
        "id": ids,
        "user_id": pa.array(random.integers(0, 200_000, rows, dtype=np.int64)),
        "country": choice(random, rows, COUNTRIES),
        "page": choice(random, rows, pages(5_000)),
        "payload": payloads(random, rows),
        "price": prices(random, rows),
        "duration": nullable_ints(random, rows, 0, 60_000),
        "tags": lists(random, rows),
    }


def narrow(random, micros, _ids):
    rows = len(micros)
    return {
        "ts": timestamps(micros),
        "id": pa.array(random.integers(0, 2**62, rows, dtype=np.int64)),
        "sensor": pa.array(random.integers(0, 1_000, rows, dtype=np.int32)),
        "counter": pa.array(np.cumsum(random.integers(0, 5, rows, dtype=np.int64))),
        "value": pa.array(random.normal(20.0, 5.0, rows)),
        "rounded": prices(random, rows),
        "status": nullable_ints(random, rows, 0, 8),
    }


def wide(random, micros, ids):
    """200 columns: the two keys, and 198 of six kinds."""
    rows = len(micros)
    kinds = [
        lambda: pa.array(random.integers(0, 1_000_000, rows, dtype=np.int64)),
        lambda: prices(random, rows),
        lambda: choice(random, rows, COUNTRIES),
        lambda: nullable_ints(random, rows, 0, 100, null_share=0.5),
        lambda: pa.array(random.normal(0.0, 1.0, rows)),
        lambda: pa.array(random.random(rows) < 0.2),
    ]
    columns = {"ts": timestamps(micros), "id": ids}
    for number in range(198):
        columns[f"c{number:03d}"] = kinds[number % len(kinds)]()
    return columns


SHAPES = {"events": events, "narrow": narrow, "wide": wide}
