"""What an older release said, and the same in the words of today (`reworded.toml`)."""

import dataclasses
import re
import tomllib

from golden import recorded


@dataclasses.dataclass(frozen=True)
class Reworded:
    """A sentence of an older release, and the same sentence today.

    Each `{}` in `was` stands for any text within a line; the `{}` at the same position in `now`
    stands for the same text.
    """

    was: str
    now: str

    def apply(self, text):
        pattern = re.escape(self.was).replace(re.escape('{}'), '(.+?)')
        return re.sub(pattern, lambda found: self.now.format(*found.groups()), text)


REWORDED = tuple(
    Reworded(**row)
    for rows in tomllib.loads((recorded.GOLDEN / 'reworded.toml').read_text()).values()
    for row in rows
)


def in_words_of_today(value):
    """Return a text, or a document with all its texts, with the reworded sentences replaced.

    Archived texts keep the words of their time, so both sides of a comparison pass through here.
    """
    if isinstance(value, str):
        for row in REWORDED:
            value = row.apply(value)
    elif isinstance(value, dict):
        return {key: in_words_of_today(each) for key, each in value.items()}
    elif isinstance(value, list):
        return [in_words_of_today(each) for each in value]
    return value
