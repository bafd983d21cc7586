"""What the common tests of pipelines do for one task, which the source distribution does not ship."""

import pytest
from PIL import Image
from transformers import pipeline

from ram_hf import RamProcessor
from ram_hf.model.pipeline_ram import TASK
from tests.conftest import LABELS


class PipelineTests:
    """Looked up by the name that stands in the common tests' table of tasks."""

    def get_test_pipeline(self, model, tokenizer, image_processor, dtype="float32"):
        processor = RamProcessor(image_processor, tokenizer)
        tagger = pipeline(TASK, model=model, processor=processor, dtype=dtype, candidate_labels=LABELS, device="cpu")
        return tagger, [Image.linear_gradient("L"), Image.radial_gradient("L").convert("RGB")]

    def run_pipeline_test(self, tagger, examples):
        for tags in tagger(examples):
            assert {tag["label"] for tag in tags} == set(LABELS)
            assert sum(tag["score"] for tag in tags) == pytest.approx(1, abs=1e-3)
