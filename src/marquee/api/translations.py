"""
Cards in other languages.

The texts come with the catalogue, so that a request in another language needs no query. A card is made from
the one in the catalogue's own language when it is first asked for.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from marquee.api.images import image_url
from marquee.data.schema import Ids

__all__ = ["Translation", "Translations"]

MOST_BYTES: Final = 32 * 2**20
"""Memory for cards that were made; beyond it all are made anew."""

Languages = tuple[str, ...]


class Translations:
    """
    The texts of a catalogue, by language.

    Args:
        texts: `language`, `item_id`, `title`, `overview` and `poster_path`, those of one language together
            and in the order of the item id; None: there are none.
        most_bytes: memory for cards that were made.
    """

    def __init__(self, texts: pa.Table | None = None, *, most_bytes: int = MOST_BYTES) -> None:
        self._texts = {} if texts is None else _by_language(texts)
        self._found: dict[Languages, Translation] = {}
        self._made: dict[tuple[Languages, bytes], bytes] = {}
        self._bytes = 0
        self._most_bytes = most_bytes

    def find(self, language: str | None) -> "Translation | None":
        """
        What is known in a language.

        Args:
            language: a tag such as `ko`; of `ko-KR` an item has its own text, else that in `ko`.

        Returns:
            None where there is no text in it at all.
        """
        if language is None:
            return None
        wanted = dict.fromkeys((language, language.partition("-")[0]))
        known = tuple(each for each in wanted if each in self._texts)
        if not known:
            return None
        found = self._found.get(known)
        if found is None:
            found = self._found[known] = Translation(self, known)
        return found

    def text(self, languages: Languages, item_id: int) -> dict[str, str | None] | None:
        """What is known of an item in the first of these languages that has anything."""
        for language in languages:
            ids, texts = self._texts[language]
            row = int(np.searchsorted(ids, item_id))
            if row < len(ids) and ids[row] == item_id:
                return {name: column[row].as_py() for name, column in texts.items()}
        return None

    def made(self, languages: Languages, origin: bytes) -> bytes | None:
        """What was kept of it."""
        return self._made.get((languages, origin))

    def keep(self, languages: Languages, origin: bytes, made: bytes) -> None:
        """Keep what was made, in bounded memory."""
        self._bytes += len(origin) + len(made)
        if self._bytes > self._most_bytes:
            self._made.clear()
            self._bytes = len(origin) + len(made)
        self._made[languages, origin] = made


class Translation:
    """What is known in one language, and where that ends in the language that it belongs to."""

    def __init__(self, translations: Translations, languages: Languages) -> None:
        self._translations = translations
        self._languages = languages

    def card(self, item_id: int, card: bytes) -> bytes:
        """
        A card in this language; what there is no text of stays as it is.

        Args:
            card: JSON, with braces or without.
        """
        made = self._translations.made(self._languages, card)
        if made is None:
            made = self._card(item_id, card)
            self._translations.keep(self._languages, card, made)
        return made

    def contents(self, body: bytes) -> bytes:
        """The whole answer of `/available-contents` in this language; takes long for large ones."""
        made = self._translations.made(self._languages, body)
        if made is None:
            answer: dict[str, list[dict[str, Any]]] = orjson.loads(body)
            for contents in answer.values():
                for content in contents:
                    self._translate(content["content_id"], content)
            made = orjson.dumps(answer)
            self._translations.keep(self._languages, body, made)
        return made

    def _card(self, item_id: int, card: bytes) -> bytes:
        whole = card.startswith(b"{")
        shown: dict[str, Any] = orjson.loads(card if whole else b"{%b}" % card)
        if not self._translate(item_id, shown):
            return card
        made = orjson.dumps(shown)
        # A copy, as the original goes on holding the kilobytes it was written in.
        return bytes(memoryview(made)) if whole else made[1:-1]

    def _translate(self, item_id: int, shown: dict[str, Any]) -> bool:
        """Write what there is over the members that are shown; whether there is any."""
        text = self._translations.text(self._languages, item_id)
        if text is None:
            return False
        told = {
            "title": text["title"],
            "overview": text["overview"],
            "poster_url": image_url(text["poster_path"]),
        }
        shown.update({name: value for name, value in told.items() if value is not None and name in shown})
        return True


def _by_language(texts: pa.Table) -> Mapping[str, tuple[Ids, Mapping[str, pa.Array]]]:
    """Language → its item ids, ascending, and what they are called, column by column."""
    languages = texts["language"].to_numpy(zero_copy_only=False)
    starts = [row for row in range(len(texts)) if not row or languages[row] != languages[row - 1]]
    found = {}
    for start, end in zip(starts, [*starts, len(texts)][1:], strict=True):
        part = texts.slice(start, end - start)
        columns = {name: part[name].combine_chunks() for name in ("title", "overview", "poster_path")}
        found[str(languages[start])] = (part["item_id"].to_numpy().astype(np.int64), columns)
    return found
