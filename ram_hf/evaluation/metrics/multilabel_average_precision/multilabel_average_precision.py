"""Mean average precision of multi-label scores, as a module for `evaluate.load`."""

# One import per line: the scanner of `evaluate.load` reads lines, not Python.
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
from numpy.typing import ArrayLike

from ram_hf.evaluation.ranking import mean_average_precision

_DESCRIPTION = """
Mean over labels of the average precision of each label over the images: not interpolated, equal scores taken together,
as scikit-learn's `average_precision_score`. Labels without a positive image are left out of the mean, and reported. An
unknown reference (-1) is left out of its label's ranking.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: scores, finite, shape (images, labels); higher is likelier.
    references: 1 where the label is in the image, 0 where not, -1 where unknown, shape (images, labels).
    label_names: names of the labels, to report instead of their indices.
Returns:
    mAP: mean average precision, in [0, 1]; NaN when no label has a positive image.
    average_precision: that of each label, a list; NaN where the label has no positive image.
    left_out: labels without a positive image, by name when `label_names` are given, else by index.
Raises:
    ValueError: when a score is NaN or infinite, a reference is none of 1, 0, -1, or a shape does not fit.
Examples:
    >>> metric = evaluate.load("ram_hf/evaluation/metrics/multilabel_average_precision")
    >>> metric.compute(predictions=[[0.9, 0.1], [0.2, 0.8]], references=[[1, 0], [0, 0]], label_names=["dog", "cat"])
    {'mAP': 1.0, 'average_precision': [1.0, nan], 'left_out': ['cat']}
"""

_CITATION = """
@article{scikit-learn, title={Scikit-learn: Machine Learning in {P}ython}, author={Pedregosa, F. and others},
journal={Journal of Machine Learning Research}, volume={12}, pages={2825--2830}, year={2011}}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class MultilabelAveragePrecision(evaluate.Metric):
    """Mean average precision of multi-label scores."""

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
            reference_urls=["https://scikit-learn.org/stable/modules/model_evaluation.html"],
        )

    def _compute(
        self, predictions: ArrayLike, references: ArrayLike, label_names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        result = mean_average_precision(predictions, references)
        if label_names is not None and len(label_names) != len(result.per_label):
            raise ValueError(f"{len(label_names)} `label_names` were given for {len(result.per_label)} labels.")
        return {
            "mAP": result.mean,
            "average_precision": result.per_label.tolist(),
            "left_out": [index if label_names is None else label_names[index] for index in result.left_out],
        }
