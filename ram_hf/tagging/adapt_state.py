"""What `ram-hf adapt` has read so far, in a hidden file beside the model to come: a stopped run goes on from it."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic import whole_file
from ..model.patch_collection import KeptPatches

_FILE = ".ram_hf-adapt.safetensors"


@dataclass
class AdaptState:
    """How far a run has come.

    Args:
        run: what tells runs apart that compute other things: see [`fingerprint_of_run`].
        done: [`number_of`] each picture that was read, or tried, in order.
        failures: paths of those that cannot be read, with the reasons.
        kept: the patches kept so far; None before the first.
    """

    run: str
    done: list[int] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    kept: KeptPatches | None = None

    @classmethod
    def begin(cls, folder: Path, run: str) -> "AdaptState":
        """That of the run that was stopped in a folder, or a new one.

        Raises:
            ValueError: when another run was stopped there, or its file is damaged.
        """
        file = folder / _FILE
        if not file.exists():
            return cls(run)
        try:
            with safe_open(file, framework="pt") as content:
                about = content.metadata()
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118  (no mapping)
            state = cls(about["run"], tensors.pop("done").tolist(), [], KeptPatches(**tensors))
            state.failures = [(path, reason) for path, reason in json.loads(about["failures"])]
        except Exception as error:  # whatever a damaged file makes a reader raise
            raise ValueError(
                f"The state of a stopped run, {str(file)!r}, cannot be read ({' '.join(str(error).split())}): remove "
                "it to begin again."
            ) from error
        if state.run != run:
            raise ValueError(
                f"{str(folder)!r} holds the state of a run with another model, other labels or other options, which "
                f"was stopped: go on with those, choose another `--output`, or remove {str(file)!r}."
            )
        return state

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            OSError: when it cannot be written; what was there stays.
        """
        if self.kept is None:
            return
        tensors: dict[str, Tensor] = {**self.kept._asdict(), "done": torch.tensor(self.done, dtype=torch.long)}
        with whole_file(folder / _FILE) as unfinished:
            save_file(tensors, unfinished, {"run": self.run, "failures": json.dumps(self.failures)})

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a run was stopped there."""
        return (folder / _FILE).exists()

    @staticmethod
    def remove(folder: Path) -> None:
        """Forget it."""
        (folder / _FILE).unlink(missing_ok=True)


def number_of(path: str, folder: Path) -> int:
    """A number for a picture, by its path below the folder: 64 bits, in which two do not meet."""
    digest = hashlib.blake2b(os.fsencode(os.path.relpath(path, folder)), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def fingerprint_of_run(model: str, candidates: Sequence[Sequence[str]], **options: object) -> str:
    """What decides on the outcome beside the pictures.

    Args:
        model: fingerprint of what computes features.
        candidates: names that each label is matched by.
        **options: of the run.
    """
    content = [model, [list(names) for names in candidates], sorted(options.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


__all__ = ["AdaptState", "fingerprint_of_run", "number_of"]
