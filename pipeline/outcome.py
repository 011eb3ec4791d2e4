"""How a stage says no."""

from __future__ import annotations


class Rejected(Exception):
    """An input, or a span of it, that is not for the dataset. The message is the reason people read.

    Not an error: a rejection is a decision, it is recorded as such and not retried.
    """
