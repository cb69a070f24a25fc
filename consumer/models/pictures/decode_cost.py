"""What decoding a picture costs, estimated from its header before any decoder runs, and the limits. Pure.

A file's size says little of it: 46 bytes of WebP can stand for 49 megapixels, and every 93 bytes of a progressive JPEG
for one more pass over all of them. The factors were measured with Pillow 13 on an AMD EPYC (4th generation).
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.wire.outcomes import RequestError, invalid

MEGA = 1_000_000
MAX_PIXELS = 50 * MEGA
MAX_VISITS = 1_000 * MEGA
"""Samples that all scans of a JPEG together may cover. Usual programs write 5 to 15 passes over a pixel, so 20 passes
at the largest size are generous; they take about a second."""

MAX_PARTS = 4096
"""Segments of a JPEG, chunks of a WebP or of a PNG besides its data: photographs have tens, with profiles hundreds."""

FREE_BYTES = 256 * MEGA
BYTES_PER_BYTE = 16_000
"""Memory that decoding may take: 256 MB whatever the file's size, which is 16 megapixels of WebP; and beyond that 16 kB
for each byte of the file. The plainest photograph has a byte for each 1 to 2 kB of decoder's memory."""

LARGE_BYTES = 100 * MEGA
LARGE_S = 0.3
"""A picture that takes more than one of these is decoded on the threads for large ones."""


@dataclass(frozen=True, slots=True)
class Effort:
    """About what decoding takes: memory at its peak, beyond the file itself, and time of one core."""

    memory_bytes: int
    seconds: float = 0.0

    @property
    def is_large(self) -> bool:
        """Say whether others should not wait behind it."""
        return self.memory_bytes > LARGE_BYTES or self.seconds > LARGE_S


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a picture before it is decoded.

    Attributes:
        form: ``JPEG``, ``PNG`` or ``WEBP``, as Pillow calls them.
        body: the file without what is not needed to decode it, such as profiles, thumbnails and texts.
        visits: samples that the decoder visits, all scans counted.
        kept_bytes: what it holds per pixel of the full size.
        made_bytes: what it holds per pixel of the size that it decodes to.
        orientation: EXIF's, 1 to 8; 1 is upright.
    """

    form: str
    width: int
    height: int
    body: bytes
    visits: int
    kept_bytes: float
    made_bytes: float
    orientation: int = 1

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


NANOSECONDS = {"JPEG": 5, "PNG": 20, "WEBP": 20}
"""Per pixel of the size that is decoded to."""


def effort_of(header: Header, scale: int = 1) -> Effort:
    """Estimate what decoding takes when the decoder makes each side ``scale`` times smaller."""
    made = header.pixels / (scale * scale)
    memory_bytes = header.kept_bytes * header.pixels + header.made_bytes * made
    return Effort(round(memory_bytes), (header.visits + NANOSECONDS[header.form] * made) / 1e9)


def check(header: Header, file_bytes: int, max_pixels: int = MAX_PIXELS) -> None:
    """Refuse what is too large, or larger than its file can honestly hold.

    Args:
        file_bytes: size of the whole file.

    Raises:
        RequestError: ``INVALID_INPUT`` with one sentence that says what to send instead.
    """
    check_pixels(header.width, header.height, max_pixels)
    if header.visits > MAX_VISITS:
        raise too_many_scans()
    memory_bytes = effort_of(header).memory_bytes
    if memory_bytes > FREE_BYTES + BYTES_PER_BYTE * file_bytes:
        raise invalid(
            f"A file of {file_bytes} bytes that claims {header.width} x {header.height} pixels would take "
            f"{memory_bytes / MEGA:.0f} MB to decode; send it smaller, or as a JPEG.",
            "body",
        )


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse more than ``max_pixels``.

    Raises:
        RequestError: there are more.
    """
    if width * height > max_pixels:
        raise too_many_pixels(max_pixels, f" of {width} x {height} pixels")


def too_many_pixels(max_pixels: int, found: str = "") -> RequestError:
    """Make the error for a picture of too many pixels."""
    return invalid(f"The image{found} is larger than the limit of {max_pixels / MEGA:g} megapixels.", "body")


def too_many_scans() -> RequestError:
    """Make the error for a JPEG with too many scans."""
    return invalid(
        f"The JPEG has so many scans that decoding it would go over {MAX_VISITS / MEGA:,.0f} megapixels and more; "
        "save it as an ordinary (baseline) JPEG, or smaller.",
        "body",
    )


def too_many_parts(what: str) -> RequestError:
    """Make the error for a file that consists of too many pieces."""
    return invalid(f"The image has more than {MAX_PARTS:,} {what}; save it again without its metadata.", "body")


def damaged(reason: str = "") -> RequestError:
    """Make the error for a file that cannot be decoded."""
    return invalid(f"The image is damaged or incomplete{': ' if reason else ''}{reason}.", "body")
