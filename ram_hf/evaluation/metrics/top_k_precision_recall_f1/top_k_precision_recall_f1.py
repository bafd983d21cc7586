"""Precision, recall and F1 of the k best labels of each image, as a module for `evaluate.load`."""

# One import per line: the scanner of `evaluate.load` reads lines, not Python.
from collections.abc import Sequence

import datasets
import evaluate
from numpy.typing import ArrayLike

from ram_hf.evaluation.ranking import top_k_metrics

_DESCRIPTION = """
Precision, recall and F1 when the k labels with the highest scores are predicted for every image: overall (OP, OR, OF1,
over all image-label pairs) and per class (CP, CR: means over labels; CF1: the harmonic mean of CP and CR). Of equal
scores the lower label index comes first. Labels never predicted have precision 0; labels without a positive image are
left out of CP and CR; images without a positive label count as all others. An unknown reference (-1) keeps its place
among the k but is counted neither as predicted nor as positive.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: scores, finite, shape (images, labels); higher is likelier.
    references: 1 where the label is in the image, 0 where not, -1 where unknown, shape (images, labels).
    k: number of labels predicted for each image, or several such numbers, each from 1 to the number of labels.
Returns:
    OP@k, OR@k, OF1@k, CP@k, CR@k, CF1@k for each k, in [0, 1].
Raises:
    ValueError: when a score is NaN or infinite, a reference is none of 1, 0, -1, or `k` is out of range.
Examples:
    >>> metric = evaluate.load("ram_hf/evaluation/metrics/top_k_precision_recall_f1")
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[1, 0], [1, 0]], k=1)["OP@1"]
    0.5
"""

_CITATION = """
@inproceedings{wang2016cnnrnn, title={{CNN-RNN}: A Unified Framework for Multi-label Image Classification},
author={Wang, Jiang and Yang, Yi and Mao, Junhua and Huang, Zhiheng and Huang, Chang and Xu, Wei},
booktitle={CVPR}, year={2016}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class TopKPrecisionRecallF1(evaluate.Metric):
    """Precision, recall and F1 of the k best labels of each image."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("int8")),
                }
            ),
            reference_urls=["https://arxiv.org/abs/1604.04573", "https://arxiv.org/abs/1312.4894"],
        )

    def _compute(
        self, predictions: ArrayLike, references: ArrayLike, k: int | Sequence[int] = (3, 5)
    ) -> dict[str, float]:
        results = {}
        for number in [k] if isinstance(k, int) else k:
            results.update(top_k_metrics(predictions, references, k=number).named(number))
        return results
