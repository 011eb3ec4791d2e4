"""The root of all errors that tell the user what to change; everything else is a programming error."""

from __future__ import annotations


class OpenDanceError(Exception):
    """Base of errors whose message is all a user needs: what is wrong, where, and what to do.

    The ``opendance`` command prints these without a traceback and exits with 2. Subclasses also derive from the builtin
    they are most like (``ValueError``, ``RuntimeError``), so that callers may catch either.
    """
