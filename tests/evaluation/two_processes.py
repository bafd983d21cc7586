"""Evaluates in each process its share of the batches and writes the report; run by test_evaluator."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from ram_hf.evaluation.evaluator import evaluate_model, evaluation_settings

from .tiny import LABEL_NAMES, UNSEEN, make_batches, make_label_features, make_model


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    # An unequal share: one process has the first batch and the last but one, the other has three, not in order.
    mine = [3, 0] if accelerator.process_index == 0 else [4, 1, 2]
    batches = make_batches()
    report = evaluate_model(
        accelerator.prepare_model(make_model()),
        (batches[index] for index in mine),
        label_names=LABEL_NAMES,
        label_features=make_label_features(),
        settings=evaluation_settings(len(LABEL_NAMES), unseen=UNSEEN),
        ks=(1, 3),
        accelerator=accelerator,
    )
    text = json.dumps([accelerator.num_processes, report.to_dict()])
    (folder / f"report-{accelerator.process_index}.json").write_text(text)
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
