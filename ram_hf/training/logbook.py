"""What a run tells: a line a logged step, trackers, a progress bar."""

import json
import time
from pathlib import Path

from accelerate import Accelerator
from tqdm.auto import tqdm


class Logbook:
    """Writes `metrics.jsonl`, feeds the trackers, and shows progress; silent on all but the main process.

    Args:
        output_dir: of the run.
        accelerator: with its trackers initialised.
        first_step: step that the run goes on from; what the file holds of later steps is dropped, as they are done
            again.
        total_steps: of the run.
    """

    def __init__(self, output_dir: Path, accelerator: Accelerator, *, first_step: int, total_steps: int):
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
        self._started, self._pictures = time.perf_counter(), 0
        if accelerator.is_main_process and self._path.is_file():
            lines = self._path.read_text().splitlines()
            is_done = first_step >= total_steps  # then the evaluation at the end is all that is done again
            kept = [
                line
                for line in lines
                if _step_of(line) < first_step
                or (_step_of(line) == first_step and not (is_done and '"loss":' not in line))
            ]
            rewritten = self._path.with_suffix(".partial")
            rewritten.write_text("".join(f"{line}\n" for line in kept))
            rewritten.replace(self._path)

    def advance(self, *, pictures: int, loss: float) -> None:
        """Count one optimizer step."""
        self._pictures += pictures
        self._progress.set_postfix(
            {"pictures/s": f"{self._pictures_per_second:.1f}", "loss": f"{loss:.4f}"}, refresh=False
        )
        self._progress.update()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Log values of one step, with the pictures per second since the last time."""
        values = {**values, "pictures_per_second": self._pictures_per_second}
        self.write_plain(step, values)
        self.restart_clock()

    def write_plain(self, step: int, values: dict[str, float]) -> None:
        """Log values of one step as they are."""
        self._accelerator.log(values, step=step)
        if self._accelerator.is_main_process:
            with self._path.open("a") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")

    def show(self, text: str) -> None:
        """Print below the progress bar."""
        if self._accelerator.is_main_process:
            tqdm.write(text)

    def restart_clock(self) -> None:
        """Leave what has passed out of the pictures per second."""
        self._started, self._pictures = time.perf_counter(), 0

    def close(self) -> None:
        """Close the progress bar."""
        self._progress.close()

    @property
    def _pictures_per_second(self) -> float:
        return self._pictures / max(time.perf_counter() - self._started, 1e-9)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # the line that a killed run was writing
