"""Name the genres of music."""

from typing import Final

#: The ten classes of paper section 3.2 (those of GTZAN), in the order of ``genre_scores``.
GENRES: Final = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip
