"""Where images are."""

from typing import Final

__all__ = ["image_url"]

IMAGES: Final = "https://image.tmdb.org/t/p"


def image_url(path: str | None, size: str = "w500") -> str | None:
    """The address of an image; paths are TMDB's, a catalogue of one's own may give whole addresses."""
    if not path:
        return None
    return path if path.startswith(("http://", "https://")) else f"{IMAGES}/{size}/{path.lstrip('/')}"
