"""Pictures that the tests write by hand, and pieces to put into others."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def noise(width: int, height: int, seed: int = 7) -> Image.Image:
    """A picture of smooth noise, the same every time."""
    pixels = np.random.default_rng(seed).integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def segment(code: int, data: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, code]) + struct.pack(">H", len(data) + 2) + data


def with_segments(body: bytes, added: bytes) -> bytes:
    """A JPEG with more behind its first segment."""
    end = 4 + int.from_bytes(body[4:6], "big")
    return body[:end] + added + body[end:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(body: bytes, added: bytes) -> bytes:
    """A PNG with more behind its header."""
    return body[:33] + added + body[33:]


def png_of(width: int, height: int, bits: int, colour_type: int, data: bytes, interlace: int = 0) -> bytes:
    """A PNG with these compressed data, and no palette."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def one_colour_webp(width: int, height: int) -> bytes:
    """A lossless WebP whose pixels are all the same: each channel has one value, which takes no bit."""
    bits = "".join(f"{value:0{size}b}"[::-1] for value, size in ((width - 1, 14), (height - 1, 14), (0, 1), (0, 3)))
    bits += "0" * 3  # no transform, no colour cache, one set of codes
    for value in (200, 90, 30, 255):
        bits += "1" + "0" + "1" + f"{value:08b}"[::-1]  # a simple code of one symbol of eight bits
    bits += "1000"  # distances: one symbol of one bit
    bits += "0" * (-len(bits) % 8)
    data = b"\x2f" + bytes(int(bits[start : start + 8][::-1], 2) for start in range(0, len(bits), 8))
    data += b"\0" * (len(data) & 1)
    content = b"WEBPVP8L" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(content)) + content


def scans_of(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG of one grey, whose every further scan is some 90 bytes and a pass over all of its blocks."""
    blocks = -(-width // 8) * -(-height // 8)
    body = b"\xff\xd8" + segment(0xDB, b"\0" + bytes([1] * 64))
    body += segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\0")
    # A code for each length of a run of empty blocks, and one for "no difference to the block before".
    body += segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0")
    body += segment(0xC4, b"\x10" + bytes([0, 0, 0, 15] + [0] * 12) + bytes(power << 4 for power in range(15)))
    runs, left = "", blocks
    while left:
        run = min(left, 32767)
        power = run.bit_length() - 1
        runs += f"{power:04b}" + (f"{run - (1 << power):0{power}b}" if power else "")
        left -= run
    body += _scan(0, 0, 0, 0, "0" * blocks) + _scan(1, 63, 0, 1, runs)
    return body + _scan(1, 63, 1, 0, runs) * scans + b"\xff\xd9"


def _scan(first: int, last: int, high: int, low: int, bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low])) + data
