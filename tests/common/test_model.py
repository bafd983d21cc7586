"""The common tests of models, configurations and pipelines, against RamModel."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ram_hf import RamConfig, RamModel
from ram_hf.model.pipeline_ram import TASK
from tests.common.distribution import common_tests
from tests.common.left_out import leaves_out
from tests.conftest import make_config, make_tokenizer

pytestmark = pytest.mark.slow

ModelTesterMixin = common_tests("test_modeling_common").ModelTesterMixin
ConfigTester = common_tests("test_configuration_common").ConfigTester
pipeline_tests = common_tests("test_pipeline_mixin")

BEGIN, END = 97, 98  # of a text

LEFT_OUT = {
    "labels padded on the left are refused: CLIP would read them, at positions it was never trained for": (
        "test_eager_matches_sdpa_inference_00_fp16_pad_left_sdpa_kernels",
        "test_eager_matches_sdpa_inference_01_fp16_pad_left",
        "test_eager_matches_sdpa_inference_08_fp32_pad_left_sdpa_kernels",
        "test_eager_matches_sdpa_inference_09_fp32_pad_left",
        "test_eager_matches_sdpa_inference_16_bf16_pad_left_sdpa_kernels",
        "test_eager_matches_sdpa_inference_17_bf16_pad_left",
        "test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions",
    ),
    "there are two towers, as in CLIP, which leaves these out too: what they pass through is in the outputs of each": (
        "test_attention_outputs",
        "test_hidden_states_output",
        "test_retain_grad_hidden_states_attentions",
    ),
    "CLIP itself does not initialise its logit scale and a projection; the test leaves out models of its age": (
        "test_can_init_all_missing_weights",
    ),
}


class RamModelTester:
    """A tiny model, and inputs for it: labels that end with the end-of-text token, as a tokenizer makes them."""

    batch_size = 7
    num_labels = 5  # which no test takes for a batch
    num_hidden_layers = 2
    hidden_size = 32
    num_attention_heads = 4
    seq_length = 7
    is_training = True

    def get_config(self):
        tower = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = {"vocab_size": 99, "max_position_embeddings": 64, "bos_token_id": BEGIN, "eos_token_id": END}
        return RamConfig(
            clip_config={
                "projection_dim": 16,
                "vision_config": {**tower, "image_size": 30, "patch_size": 10, "projection_dim": 16},
                "text_config": {**tower, **text, "projection_dim": 16},
            },
            ladder_tokens=2,
            prompt_tokens=2,
            prompt_layers=[1],  # below it CLIP's own layer is called whole
            local_temperature=0.07,  # as CLIP's own: a small one multiplies the rounding of attention
        )

    def prepare_config_and_inputs_for_common(self):
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1, BEGIN, (self.num_labels, self.seq_length), generator=generator)
        ids[:, 0], ids[:, -1] = BEGIN, END
        pixel_values = torch.rand(self.batch_size, 3, 30, 30, generator=generator)
        return self.get_config(), {
            "pixel_values": pixel_values,
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }


@leaves_out(LEFT_OUT)
class TestRamModel(ModelTesterMixin, pipeline_tests.PipelineTesterMixin, unittest.TestCase):
    all_model_classes = (RamModel,)
    pipeline_model_mapping = {TASK: RamModel}  # noqa: RUF012  (the stock task is never given labels by its test)
    additional_model_inputs = ["input_ids"]  # noqa: RUF012
    test_resize_embeddings = False  # a smaller vocabulary has no end-of-text token
    test_can_init_all_missing_weights_before_2023 = True
    _is_composite = True

    def setUp(self):
        self.model_tester = RamModelTester()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        ids = inputs["input_ids"]
        ids[(ids != END).all(dim=1), -1] = END  # where a test adds labels of random tokens
        if return_labels:
            shape = (len(inputs["pixel_values"]), len(ids))
            inputs["labels"] = torch.arange(shape[0] * shape[1]).reshape(shape).remainder(3).eq(0).float()
        return inputs

    def test_config(self):
        ConfigTester(self, RamConfig, has_text_modality=False, epsilon=0.2).run_common_tests()

    def run_task_tests(self, task, dtype="float32"):
        """With a model of this program, where transformers' own come from the Hub."""
        with tempfile.TemporaryDirectory() as folder:
            model_folder = Path(folder) / RamConfig.model_type / "RamModel"
            RamModel(make_config()).save_pretrained(model_folder)
            make_tokenizer().save_pretrained(model_folder)
            CLIPImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(model_folder)
            parts = {"tokenizer_classes": ["CLIPTokenizer"], "processor_classes": ["CLIPImageProcessorPil"]}
            runs = {"test": "tests.common.pipeline_task.PipelineTests"}
            with (
                mock.patch.object(pipeline_tests, "TRANSFORMERS_TINY_MODEL_PATH", folder),
                mock.patch.dict(pipeline_tests.tiny_model_summary, {"RamModel": parts}),
                mock.patch.dict(pipeline_tests.pipeline_test_mapping, {TASK: runs}),
            ):
                super().run_task_tests(task, dtype=dtype)

    def test_pipeline_zero_shot_multi_label_tagging(self):
        self.run_task_tests(TASK)

    def test_pipeline_zero_shot_multi_label_tagging_fp16(self):
        self.run_task_tests(TASK, dtype="float16")
