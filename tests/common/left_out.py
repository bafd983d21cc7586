"""Common tests that do not fit our classes, each with its reason."""

import functools
from collections.abc import Callable, Mapping, Sequence

import pytest


def leaves_out(names_of: Mapping[str, Sequence[str]]) -> Callable[[type], type]:
    """Expect the named tests of a class to fail, each for its reason.

    One that passes after all fails the run, and so does one that is no more: then the list is to be mended.
    """

    def mark(cls: type) -> type:
        for reason, names in names_of.items():
            for name in names:
                setattr(cls, name, pytest.mark.xfail(strict=True, reason=reason)(_own_copy(getattr(cls, name))))
        return cls

    return mark


def _own_copy(test: Callable) -> Callable:
    """A function of its own to mark: the mark of an inherited one would be everybody's."""

    @functools.wraps(test)
    def copy(self):
        test(self)

    return copy
