"""The orientation of a photo, from its EXIF data."""

import struct

ORIENTATION, SHORT = 0x0112, 3
MAX_TAGS = 200  # cameras write about 20 of them


def orientation_of(exif: bytes) -> int:
    """Return EXIF's number for the rotation and flip that set a photo upright; 1 (none) if it isn't given."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for at in range(first + 2, first + 2 + 12 * min(count, MAX_TAGS), 12):
            tag, kind, _count, value = struct.unpack_from(f"{order}HHIH", exif, at)
            if (tag, kind) == (ORIENTATION, SHORT) and 1 <= value <= 8:
                return int(value)
    except struct.error:
        pass  # broken metadata doesn't break the image
    return 1
