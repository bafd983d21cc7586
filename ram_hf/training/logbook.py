"""What a run tells: a line a logged step, trackers, a progress bar."""

import json
import time
from pathlib import Path

from accelerate import Accelerator
from tqdm.auto import tqdm

from ..atomic import append, write_whole


class Logbook:
    """Writes `metrics.jsonl`, feeds the trackers, and shows progress; silent on all but the main process.

    Args:
        output_dir: of the run.
        accelerator: with its trackers initialised.
        first_step: step that the run goes on from; what the file holds of later steps is dropped, as they are done
            again.
        total_steps: of the run.
        judges_again: whether the evaluation of `first_step` is done again too.
    """

    def __init__(
        self,
        output_dir: Path,
        accelerator: Accelerator,
        *,
        first_step: int,
        total_steps: int,
        judges_again: bool = False,
    ):
        self._accelerator = accelerator
        self._path = output_dir / "metrics.jsonl"
        self._progress = tqdm(
            initial=first_step,
            total=total_steps,
            unit="step",
            disable=not accelerator.is_main_process,
            dynamic_ncols=True,
            smoothing=0.1,
        )
        self._loss: float | None = None
        self._started, self._images = time.perf_counter(), 0
        if accelerator.is_main_process and self._path.is_file():
            # Of a run that is done, the evaluation at the end is all that is done again.
            judges_again |= first_step >= total_steps
            kept = [
                line
                for line in self._path.read_text().splitlines()
                if (step := _step_of(line)) < first_step
                or (step == first_step and (not judges_again or '"loss":' in line))
            ]
            write_whole(self._path, "".join(f"{line}\n" for line in kept))

    def advance(self, images: int) -> None:
        """Count one optimizer step."""
        self._images += images
        shown = {"images/s": f"{self._images_per_second:.1f}"}
        if self._loss is not None:
            shown["loss"] = f"{self._loss:.4f}"
        self._progress.set_postfix(shown, refresh=False)
        self._progress.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log values of one step, with the images per second since the last time; its `loss` is shown from here on."""
        self._loss = values["loss"]
        self.write_plain(step, {**values, "images_per_second": self._images_per_second})
        self.restart_clock()

    def write_plain(self, step: int, values: dict[str, float]) -> None:
        """Log values of one step as they are."""
        self._accelerator.log(values, step=step)
        if self._accelerator.is_main_process:
            append(self._path, json.dumps({"step": step, **values}) + "\n")

    def show(self, text: str) -> None:
        """Print below the progress bar."""
        if self._accelerator.is_main_process:
            tqdm.write(text)

    def restart_clock(self) -> None:
        """Leave what has passed out of the images per second."""
        self._started, self._images = time.perf_counter(), 0

    def close(self) -> None:
        """Close the progress bar."""
        self._progress.close()

    @property
    def _images_per_second(self) -> float:
        return self._images / max(time.perf_counter() - self._started, 1e-9)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the line that a killed run was writing


__all__ = ["Logbook"]
