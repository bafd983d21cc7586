"""The common tests of processors, against RamProcessor."""

import unittest

import pytest
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamProcessor
from tests.common.distribution import common_tests
from tests.common.left_out import leaves_out
from tests.conftest import make_tokenizer

pytestmark = pytest.mark.slow

ProcessorTesterMixin = common_tests("test_processing_common").ProcessorTesterMixin

LEFT_OUT = {
    "a rule of style: `label_template` of a call stands in for the processor's own, and is seen in the signature": (
        "test_call_arguments_not_in_attributes",
    ),
    "it looks into the first base alone, which here is what gives a pushed folder its card; CLIP's skips it": (
        "test_replacement_offsets",
    ),
}


@leaves_out(LEFT_OUT)
class TestRamProcessor(ProcessorTesterMixin, unittest.TestCase):
    processor_class = RamProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return make_tokenizer()

    @classmethod
    def _setup_image_processor(cls):
        return CLIPImageProcessorPil(size={"height": 32, "width": 32})
