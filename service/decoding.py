"""Decodes image files: in this process, or in a separate one if a file may take any amount of memory."""

import io
import struct
import subprocess
import sys

from PIL import Image

from service import decoder
from service.image_files import BrokenImage, ImageFile

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, struct.error)


def decoded(file: ImageFile, edge: int) -> Image.Image:
    """Decode a file to RGB on white, its longer edge at most `edge` pixels; raises BrokenImage."""
    if file.apart:
        return _decoded_apart(file, edge)
    try:
        return decoder.decode(file.kind, (file.width, file.height), file.data, edge)
    except UNREADABLE as error:
        raise BrokenImage(f"is a broken image: {str(error)[:100]}") from None


def _decoded_apart(file: ImageFile, edge: int) -> Image.Image:
    command = [sys.executable, "-I", decoder.__file__, file.kind, str(file.width), str(file.height), str(edge)]
    done = subprocess.run(command, input=file.data, capture_output=True, check=False)
    if done.returncode:
        raise BrokenImage("is a broken image, or takes more memory to decode than there is: send a PNG or a JPEG")
    return Image.open(io.BytesIO(done.stdout), formats=["PPM"])
