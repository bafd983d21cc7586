import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ram_hf.evaluation.metrics.multilabel_average_precision.multilabel_average_precision import (
    MultilabelAveragePrecision,
)
from ram_hf.evaluation.metrics.top_k_precision_recall_f1.top_k_precision_recall_f1 import TopKPrecisionRecallF1
from ram_hf.evaluation.ranking import top_k_metrics

ROOT = Path(__file__).parents[2]


@pytest.fixture
def problem():
    generator = np.random.default_rng(0)
    return generator.random((50, 8)), (generator.random((50, 8)) < 0.3).astype(int)


def test_average_precision_without_a_loader(problem):
    scores, targets = problem
    targets[:, 3] = 0
    metric = MultilabelAveragePrecision(keep_in_memory=True)
    result = metric.compute(predictions=scores, references=targets, label_names=list("abcdefgh"))
    rest = [0, 1, 2, 4, 5, 6, 7]
    assert result["mAP"] == pytest.approx(average_precision_score(targets[:, rest], scores[:, rest]), rel=1e-12)
    assert result["left_out"] == ["d"]
    assert len(result["average_precision"]) == 8
    assert metric.compute(predictions=scores, references=targets)["left_out"] == [3]


def test_batches_add_up(problem):
    scores, targets = problem
    metric = TopKPrecisionRecallF1(keep_in_memory=True)
    for part in np.array_split(np.arange(50), 3):
        metric.add_batch(predictions=scores[part], references=targets[part])
    result = metric.compute()
    assert result == {**top_k_metrics(scores, targets, k=3).named(3), **top_k_metrics(scores, targets, k=5).named(5)}


def test_one_k_and_unknown_references():
    metric = TopKPrecisionRecallF1(keep_in_memory=True)
    result = metric.compute(predictions=[[0.9, 0.8, 0.7]], references=[[-1, 1, 1]], k=2)
    assert result["OP@2"] == 1.0
    assert result["OR@2"] == 0.5


def test_nan_and_wrong_names_are_refused(problem):
    scores, targets = problem
    with pytest.raises(ValueError, match="3 `label_names` were given for 8 labels"):
        MultilabelAveragePrecision(keep_in_memory=True).compute(
            predictions=scores, references=targets, label_names=["a", "b", "c"]
        )
    scores[1, 2] = np.nan
    for metric in (MultilabelAveragePrecision(keep_in_memory=True), TopKPrecisionRecallF1(keep_in_memory=True)):
        with pytest.raises(ValueError, match="for image 1 and label 2"):
            metric.compute(predictions=scores, references=targets)


@pytest.mark.slow
def test_evaluate_loads_folders_and_files_offline(tmp_path):
    # A process of its own: `evaluate` reads the place of its caches when it is imported.
    program = """
import evaluate, json, sys
results = []
for path in sys.argv[1:]:
    metric = evaluate.load(path)
    results.append(metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[1, 0], [1, 0]], **(
        {"k": 1} if "top_k" in path else {})))
json.dump([{key: value for key, value in result.items() if key in ("mAP", "OP@1")} for result in results], sys.stdout)
"""
    folders = sorted(
        path for path in (ROOT / "ram_hf/evaluation/metrics").iterdir() if (path / "__init__.py").exists()
    )
    assert len(folders) == 2
    paths = [str(path) for folder in folders for path in (folder, folder / f"{folder.name}.py")]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name in ("HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "HF_METRICS_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", program, *paths], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [{"mAP": 1.0}, {"mAP": 1.0}, {"OP@1": 0.5}, {"OP@1": 0.5}]
