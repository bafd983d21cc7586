"""A small CLIP for photographs, distilled from a classifier: `ram-hf pretrain clip-on-photographs --config FILE`.

The rate is constant, and falls at the end of a run of any length: more hours need no new beginning. A run that is
going on takes a longer `total_steps`; another one, with `start_from` one of its checkpoints, takes the fall from
there. Where weights are all there is, `start_from` takes the model, and a run begins with them.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor
from transformers import CLIPTokenizer

from ..atomic import whole_folder
from ..interruption import stop_signals
from ..model.checkpoint_kind import refuse_missing_folder
from ..model.processing_ram import RamProcessor
from ..training.accelerators import make_single_accelerator
from ..training.attention import attention_for_training
from ..training.checkpoints import is_checkpoint
from ..training.logbook import Logbook
from ..training.optimization import set_learning_rates
from .clip_tokenizer import learn_clip_tokenizer
from .photo_arguments import PhotoClipArguments
from .photo_batches import PhotoBatches
from .photo_judge import judge_photo_clip
from .photo_labels import LabelBank, make_label_bank
from .photo_schedule import constant_then_decay
from .photo_student import PhotoStudent, distillation_losses
from .photographs import Photographs, held_back, open_photographs
from .small_clip import (
    ClipSizes,
    load_state,
    make_clip,
    make_optimizers,
    make_processor,
    open_clip,
    read_sizes,
    resize_images,
    save_clip,
    save_state,
)
from .teacher import open_teacher_features

_PROCESSOR = "processor"


def train_photo_clip(arguments: PhotoClipArguments) -> dict[str, float]:
    """Train; `output_dir` ends as a folder that `CLIPModel.from_pretrained` takes.

    A run that was stopped goes on from its newest checkpoint, with the same batches as if it had never stopped.

    Returns:
        What [`judge_photo_clip`] says of it at the end.

    Raises:
        FloatingPointError: when the loss is not finite.
        FileNotFoundError: when `start_from` is neither a checkpoint nor a model.
        KeyboardInterrupt: when interrupted or terminated; a checkpoint is written first.
        ValueError: in several processes, which would each train alone; or when `sizes` are not those of the model to
            begin with.
    """
    run = _Run(arguments)
    with closing(run.logbook), stop_signals() as stop_asked:
        while not run.is_done:
            run.learn()
            stopped = stop_asked()
            run.save(at_once=stopped)
            if stopped and not run.is_done:
                raise KeyboardInterrupt(f"stopped at step {run.step}; run the same command again to go on")
    return run.finish()


class _Run:
    """State of a training: what learns, what from, and how far it is."""

    def __init__(self, arguments: PhotoClipArguments):
        self.arguments, self.output_dir = arguments, Path(arguments.output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.accelerator = make_single_accelerator(arguments.mixed_precision)
        set_seed(arguments.seed)
        self.photographs = open_photographs(arguments.photographs)
        self.bank = _read_bank(self.photographs, Path(arguments.words))
        self.kept = held_back(self.photographs.files, every=arguments.held_back_every)
        sizes, start = read_sizes(arguments.sizes), arguments.start_from
        self.checkpoint = start if start and is_checkpoint(start) else None
        self.written = open_clip(start, sizes) if start and not self.checkpoint else None
        self.processor = self._keep_processor(sizes)
        self._prepare_learning(sizes)
        self.step = load_state(self.output_dir, self.student, self.optimizers, otherwise=self.checkpoint)
        self.logbook = Logbook(
            self.output_dir, self.accelerator, first_step=self.step, total_steps=arguments.total_steps
        )
        self.saved_at = time.monotonic()

    def _keep_processor(self, sizes: ClipSizes) -> RamProcessor:
        """One for the whole run: other names in the bank would give other numbers to tokens under one that goes on."""
        kept = self.output_dir / _PROCESSOR
        if not kept.is_dir():
            processor = make_processor(self._tokenizer(), sizes)
            with whole_folder(kept) as unfinished:
                processor.save_pretrained(unfinished)
        return RamProcessor.from_pretrained(kept)

    def _tokenizer(self) -> CLIPTokenizer:
        """That of what the run begins with, or else one that knows its texts."""
        if self.written is not None:
            return self.written.tokenizer
        if self.checkpoint is not None:
            folder = Path(self.checkpoint).parents[1] / _PROCESSOR
            refuse_missing_folder(folder)
            return RamProcessor.from_pretrained(folder).tokenizer
        texts = [*filter(None, self.photographs.captions), *self.bank.names]
        return learn_clip_tokenizer(texts, vocab_size=self.arguments.vocab_size)

    def _prepare_learning(self, sizes: ClipSizes) -> None:
        arguments, device = self.arguments, self.accelerator.device
        features = open_teacher_features(arguments.teacher)
        self.batches = PhotoBatches(
            self.photographs,
            features,
            self.bank,
            np.flatnonzero(~self.kept),
            self.processor.tokenizer,
            batch_size=arguments.batch_size,
            captioned_share=arguments.captioned_share,
            names_at_once=arguments.names_at_once,
            teacher_share=arguments.teacher_share,
            name_length=arguments.name_length,
            caption_length=arguments.caption_length,
            patch_size=sizes.patch_size,
            least_area=arguments.least_area,
            seed=arguments.seed,
        )
        if self.written is not None:
            clip = self.written.clip
        else:
            clip = make_clip(self.processor.tokenizer, sizes, logit_scale=arguments.logit_scale)
        self.student = PhotoStudent(clip, features.maps.shape[-1]).to(device).train()
        self.optimizers = make_optimizers(
            self.student,
            clip,
            matrix_learning_rate=arguments.matrix_learning_rate,
            learning_rate=arguments.learning_rate,
            weight_decay=arguments.weight_decay,
        )
        self.schedule = constant_then_decay(
            warmup_steps=arguments.warmup_steps, decay_steps=arguments.decay_steps, total_steps=arguments.total_steps
        )
        scale = torch.from_numpy(features.deviations).clamp(min=1e-6).pow(-arguments.whitening)
        self.feature_scale = scale.to(device)
        self.encoders = _encoders(self.student, compiled=arguments.compile)

    @property
    def is_done(self) -> bool:
        return self.step >= self.arguments.total_steps

    def learn(self) -> None:
        """Do one step, and tell of it when it is time."""
        arguments = self.arguments
        rates = set_learning_rates(self.optimizers, self.schedule, self.step)
        batch = self.batches.batch(self.step, image_size=arguments.image_size(self.step))
        with self.accelerator.autocast(), attention_for_training(self.student.clip, self.accelerator):
            losses = distillation_losses(
                self.student, batch.to(self.accelerator.device), self.feature_scale, **self.encoders
            )
        loss = torch.stack([arguments.loss_weights[name] * value for name, value in losses.items()]).sum()
        if not math.isfinite(value := loss.item()):
            raise FloatingPointError(f"At step {self.step + 1} the loss is {value}. Go on with lower learning rates.")
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        self.logbook.advance(arguments.batch_size)
        if self.step % arguments.log_steps == 0 or self.is_done:
            self.logbook.write(self.step, _told(value, losses, self.student, rates))
        if self.step % arguments.eval_steps == 0 and not self.is_done:
            self._judge(arguments.image_size(self.step - 1))

    def save(self, *, at_once: bool) -> None:
        """Write a checkpoint when it is time, or now."""
        if at_once or self.is_done or time.monotonic() - self.saved_at > 60 * self.arguments.save_minutes:
            save_state(self.output_dir, self.step, self.student, self.optimizers)
            self.saved_at = time.monotonic()

    def finish(self) -> dict[str, float]:
        """Write the CLIP, for images of the size that is asked for; returns how it is judged."""
        clip, sizes = self.student.clip, read_sizes(self.arguments.sizes)
        if self.arguments.saved_image_size is not None:
            sizes = replace(sizes, image_size=self.arguments.saved_image_size)
        resize_images(clip, sizes.image_size)
        save_clip(self.output_dir, clip, make_processor(self.processor.tokenizer, sizes))
        return self._judge(sizes.image_size)

    def _judge(self, image_size: int) -> dict[str, float]:
        rows = np.flatnonzero(self.kept)
        clip, tokenizer = self.student.clip, self.processor.tokenizer
        judgement = judge_photo_clip(clip, tokenizer, self.photographs, self.bank, rows, image_size=image_size)
        self.logbook.write_plain(self.step, judgement)
        told = ", ".join(f"{name} {value:.3f}" for name, value in judgement.items())
        self.logbook.show(f"Step {self.step} at {image_size} px: {told}")
        self.logbook.restart_clock()
        return judgement


def _read_bank(photographs: Photographs, words: Path) -> LabelBank:
    def read(name: str) -> Any:
        return json.loads((words / name).read_text(encoding="utf-8"))

    has_complete = any(complete is not None for complete in photographs.labels_exact)
    return make_label_bank(
        photographs,
        # Elsewhere they would be names of nothing, told apart from all photographs in each step.
        exact_labels=read("labels.json")["exact"] if has_complete else [],
        parents=read("hypernyms.json"),
        class_names=[name for _, name in sorted(read("wnid2name.json").items())],
    )


def _encoders(student: PhotoStudent, *, compiled: bool) -> dict[str, Callable]:
    # Every stage has images of one size, and texts have two: a graph for each beats one for all.
    towers = {"encode_images": student.encode_images, "encode_texts": student.encode_texts}
    return {name: torch.compile(f, dynamic=False) if compiled else f for name, f in towers.items()}


def _told(loss: float, losses: dict[str, Tensor], student: PhotoStudent, rates: dict[str, float]) -> dict[str, float]:
    return {
        "loss": loss,
        **{f"loss/{name}": value.item() for name, value in losses.items()},
        "logit_scale": student.logit_scale.item(),
        **{f"learning_rate/{name}": rate for name, rate in rates.items()},
    }


__all__ = ["train_photo_clip"]
