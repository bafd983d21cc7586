"""Whether a run's labels and its images meet."""

from accelerate import Accelerator
from accelerate.utils import gather_object

from ..data.label_census import LabelCensus, Tally, add_tallies, check_tally

_ENOUGH = 10_000  # images without one label of the run, that end it before the epoch does


class LabelCheck:
    """Looks once at the labels that the images have: at the start if they were counted before, else after an epoch.

    Args:
        census: of this process's images.
        prepared: what was counted when the images were prepared.
        is_new: whether the run begins, and does not go on from a checkpoint.
        accelerator: of the running processes.

    Raises:
        ValueError: as [`check_tally`].
    """

    def __init__(self, census: LabelCensus, prepared: Tally | None, *, is_new: bool, accelerator: Accelerator):
        self._census, self._is_new, self._accelerator = census, is_new, accelerator
        self._is_settled = prepared is not None
        if prepared is not None:
            self._judge(prepared)

    def look(self, *, is_last: bool) -> None:
        """Judge what is counted so far, once that is enough; all processes have to call it.

        Args:
            is_last: whether no more images will come.

        Raises:
            ValueError: as [`check_tally`], on all processes.
        """
        if self._is_settled:
            return
        found = gather_object([(self._census.is_complete, self._census.tally())])
        tally = add_tallies([tally for _, tally in found])
        is_complete = all(complete for complete, _ in found) or (is_last and self._is_new)
        if is_complete or (tally.num_images >= _ENOUGH and not any(tally.num_positives.values())):
            self._is_settled = True
            self._judge(tally)

    def _judge(self, tally: Tally) -> None:
        if self._accelerator.is_main_process or not any(tally.num_positives.values()):
            check_tally(tally)


__all__ = ["LabelCheck"]
