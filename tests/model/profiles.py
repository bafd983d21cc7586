"""Colour profiles, made by hand: three primaries, or grey, and a gamma."""

import struct

import numpy as np

# Columns: red, green and blue in XYZ under D50, as profiles hold them.
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
PROPHOTO = np.array([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0, 0.0, 0.8249]])
DISPLAY_P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
_WHITE = (0.9642, 1.0, 0.8249)


def matrix_profile(primaries: np.ndarray, gamma: float) -> bytes:
    curve = _curve(gamma)
    tags = {b"wtpt": _xyz(_WHITE)}
    for channel, name in enumerate("rgb"):
        tags[f"{name}XYZ".encode()] = _xyz(primaries[:, channel])
        tags[f"{name}TRC".encode()] = curve
    return _profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return _profile(b"GRAY", {b"wtpt": _xyz(_WHITE), b"kTRC": _curve(gamma)})


def seen_in_srgb(pixels: np.ndarray, primaries: np.ndarray, gamma: float) -> np.ndarray:
    """What such pixels, uint8, are in sRGB."""
    linear = (pixels / 255) ** gamma @ primaries.T @ np.linalg.inv(SRGB).T
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded)


def _xyz(values) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    place = 132 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, place + len(data), len(content))
        data += content
    header = struct.pack(">I4sI4s4s4s", place + len(data), bytes(4), 0x02400000, b"mntr", space, b"XYZ ")
    header += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += struct.pack(">3i", *(round(value * 65536) for value in _WHITE))
    return header.ljust(128, b"\0") + table + data
