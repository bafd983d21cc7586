"""How many processes decode."""

import os

FEW = 8  # pictures that are decoded in this process: starting others takes longer
_MOST_WORKERS = 8


def worker_count(asked: int | None, num_images: int) -> int:
    """As many as were asked for, or by the number of images and cores."""
    if asked is not None:
        return asked
    if num_images <= FEW:
        return 0
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS and Windows
    num_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(num_cores, _MOST_WORKERS)


__all__ = ["FEW", "worker_count"]
