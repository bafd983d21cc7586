import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoModelForZeroShotImageClassification, CLIPModel

from ram_hf import RamConfig, RamModel
from ram_hf.model.image_encoder import ImageEncoder
from ram_hf.model.label_encoder import LabelEncoder
from ram_hf.model.layer_record import LayerRecord
from ram_hf.model.optimal_transport import cost_from_similarity, sinkhorn
from tests.conftest import LABELS, make_config

# Float32 rounds a similarity by about 1e-7, and the local temperature of 2e-3 turns that into 5e-5 of a logit.
ROUNDING = {"atol": 3e-5, "rtol": 1e-4}


def scores_of(model, pixel_values, label_inputs, **options):
    with torch.no_grad():
        return model(pixel_values, **label_inputs, **options)


def test_output_has_the_promised_shapes_and_meanings(tiny_model, pixel_values, label_inputs):
    output = scores_of(tiny_model, pixel_values, label_inputs, output_transport_plan=True)
    images, patches, labels, width = 3, 16, len(LABELS), 48
    shapes = {name: tuple(value.shape) for name, value in output.items() if name != "vision_model_output"}
    assert shapes == {
        "scores": (images, labels),
        "logits_per_image": (images, labels),
        "global_logits": (images, labels),
        "local_logits": (images, labels),
        "image_embeds": (images, width),
        "patch_embeds": (images, patches, width),
        "label_embeds": (labels, width),
        "patch_marginal": (images, patches),
        "transport_plan": (images, patches, labels),
        "logits_per_text": (labels, images),
        "text_embeds": (labels, width),
    }
    for embeds in (output.image_embeds, output.patch_embeds, output.label_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(embeds.shape[:-1]))
    torch.testing.assert_close(output.scores.sum(dim=1), torch.ones(images))
    torch.testing.assert_close(output.logits_per_image.softmax(dim=1), output.scores)
    torch.testing.assert_close(output.logits_per_image.exp(), output.scores)
    torch.testing.assert_close(output.patch_marginal.sum(dim=1), torch.ones(images))
    torch.testing.assert_close(output.transport_plan.sum(dim=1), torch.full((images, labels), 1 / labels))
    similarity = output.patch_embeds @ output.label_embeds.T
    local = labels * (output.transport_plan * similarity).sum(dim=1) / tiny_model.config.local_temperature
    torch.testing.assert_close(output.local_logits, local)


def test_main_stream_without_ladder_tokens_is_clip(tiny_model, pixel_values, label_inputs, tiny_processor):
    model = RamModel.from_clip(tiny_model.clip)
    with torch.no_grad():
        image_features = model.get_image_features(pixel_values).pooler_output
        label_features = model.get_label_features(**label_inputs)
        clip_images = model.clip.get_image_features(pixel_values).pooler_output
        clip_labels = model.clip.get_text_features(**label_inputs).pooler_output
    torch.testing.assert_close(image_features, clip_images)
    torch.testing.assert_close(label_features, clip_labels, atol=1e-5, rtol=1e-4)


def test_global_score_of_a_training_free_model_is_clips_zero_shot(tiny_model, pixel_values, label_inputs):
    model = RamModel.from_clip(tiny_model.clip)
    output = scores_of(model, pixel_values, label_inputs)
    with torch.no_grad():
        expected = model.clip(pixel_values=pixel_values, **label_inputs).logits_per_image
    torch.testing.assert_close(output.global_logits, expected, atol=1e-4, rtol=1e-4)


def plain_local_stream(model, pixel_values, label_features):
    """DESIGN section 2 written down as it stands, one operation at a time, for a model without ladder tokens."""
    vision = model.clip.vision_model
    x = vision.pre_layrnorm(vision.embeddings(pixel_values))
    z = x
    heads = vision.config.num_attention_heads
    for index, layer in enumerate(vision.encoder.layers):
        v = layer.self_attn.v_proj(layer.layer_norm1(x))
        alike = v if model.config.local_attention == "value" else layer.self_attn.k_proj(layer.layer_norm1(x))
        pieces = []
        for a, head in zip(alike.chunk(heads, dim=-1), v.chunk(heads, dim=-1), strict=True):
            attention = (a @ a.mT / head.shape[-1] ** 0.5).softmax(dim=-1)
            pieces.append(attention @ head)
        z = z + layer.self_attn.out_proj(torch.cat(pieces, dim=-1))
        x = layer(x, None)
        if index in model.config.ladder_layers:
            adapter = model.ladder[str(index)].adapter
            side = int((x.shape[1] - 1) ** 0.5)
            patch_map = x[:, 1:].mT.reshape(x.shape[0], -1, side, side)
            t = adapter.label_norm(label_features)
            streams = []
            for conv, batch_norm, norm in (
                (adapter.point_conv, adapter.point_batch_norm, adapter.point_query_norm),
                (adapter.area_conv, adapter.area_batch_norm, adapter.area_query_norm),
            ):
                q = F.gelu(batch_norm(conv(patch_map))).flatten(2).mT
                q = q + (norm(q) @ t.T / t.shape[1] ** 0.5).softmax(dim=-1) @ t
                streams.append(q.mT.unflatten(2, (side, side)))
            both = torch.cat(streams, dim=1)
            gate = adapter.gate_conv(torch.stack([both.mean(dim=1), both.amax(dim=1)], dim=1)).sigmoid()
            summed = streams[0] * gate[:, :1] + streams[1] * gate[:, 1:]
            z = z + torch.cat([x[:, :1], adapter.output_conv(summed).flatten(2).mT], dim=1)
    return model.clip.visual_projection(vision.post_layernorm(z[:, 1:]))


@torch.no_grad()
@pytest.mark.parametrize("local_attention", ["value", "key"])
def test_local_stream_is_its_equation(pixel_values, label_inputs, local_attention):
    model = RamModel(make_config(ladder_tokens=0, ladder_layers=[1, 3], local_attention=local_attention)).eval()
    label_features = model.get_label_features(**label_inputs)
    expected = plain_local_stream(model, pixel_values, label_features)
    actual = model.get_patch_features(pixel_values, label_features)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_ladder_tokens_are_seen_by_attention_and_dropped(tiny_model, pixel_values):
    """Appending the tokens, running CLIP's own layer and dropping them gives the image features."""
    vision = tiny_model.clip.vision_model
    x = vision.pre_layrnorm(vision.embeddings(pixel_values))
    for index, layer in enumerate(vision.encoder.layers):
        if str(index) in tiny_model.ladder:
            tokens = tiny_model.ladder[str(index)].tokens.expand(x.shape[0], -1, -1)
            x = layer(torch.cat([x, tokens], dim=1), None)[:, :-8]
        else:
            x = layer(x, None)
    expected = tiny_model.clip.visual_projection(vision.post_layernorm(x[:, 0]))
    torch.testing.assert_close(
        tiny_model.get_image_features(pixel_values).pooler_output, expected, atol=1e-5, rtol=1e-4
    )


# --- what must be exact (DESIGN 5) -------------------------------------------------------------------------------


def test_batch_invariance(tiny_model, pixel_values, label_inputs):
    """With images that Sinkhorn stops at different counts, so that one could hold up the other."""
    tiny_model.config.epsilon, tiny_model.config.sinkhorn_tolerance = 0.05, 1e-2
    pixel_values[0] = 0.0
    together = scores_of(tiny_model, pixel_values, label_inputs, output_transport_plan=True)
    counts = set()
    for image in range(3):
        alone = scores_of(tiny_model, pixel_values[image : image + 1], label_inputs, output_transport_plan=True)
        torch.testing.assert_close(alone.scores[0], together.scores[image], **ROUNDING)
        torch.testing.assert_close(alone.transport_plan[0], together.transport_plan[image], atol=1e-6, rtol=1e-4)
        similarity = alone.patch_embeds @ alone.label_embeds.T
        cost = cost_from_similarity(similarity, logit_scale=tiny_model.clip.logit_scale.exp())
        label_marginal = torch.full((len(LABELS),), 1 / len(LABELS))
        result = sinkhorn(cost, alone.patch_marginal, label_marginal, epsilon=0.05, tolerance=1e-2)
        counts.add(int(result.num_iterations))
    assert len(counts) > 1


def test_permuting_labels_permutes_scores(tiny_model, pixel_values, tiny_processor):
    order = [2, 0, 3, 1]
    scores = scores_of(tiny_model, pixel_values, dict(tiny_processor(labels=LABELS))).scores
    permuted = scores_of(tiny_model, pixel_values, dict(tiny_processor(labels=[LABELS[i] for i in order]))).scores
    torch.testing.assert_close(permuted, scores[:, order], **ROUNDING)


def test_padding_chunks_and_cache_change_nothing(tiny_model, pixel_values, label_inputs, monkeypatch):
    with torch.no_grad():
        expected = tiny_model.get_label_features(**label_inputs)
        end = tiny_model.config.clip_config.text_config.eos_token_id
        padded = F.pad(label_inputs["input_ids"], (0, 77 - label_inputs["input_ids"].shape[1]), value=end)
        torch.testing.assert_close(tiny_model.get_label_features(padded), expected)
        monkeypatch.setattr("ram_hf.model.label_encoder._ROWS", 2)
        monkeypatch.setattr("ram_hf.model.label_encoder._POSITIONS", 5)
        tiny_model.clear_label_cache()
        pieces = []
        tiny_model.clip.text_projection.register_forward_hook(lambda *call: pieces.append(len(call[-1])))
        torch.testing.assert_close(tiny_model.get_label_features(label_inputs["input_ids"]), expected)
        assert pieces == [2, 2, 2]  # two labels of 5 to 9 tokens, one of up to 14, one longer, each piece filled up
        once = tiny_model(pixel_values, **label_inputs).scores
        cached = tiny_model(pixel_values, label_features=expected).scores
        torch.testing.assert_close(once, cached, **ROUNDING)


def test_matching_in_pieces_changes_nothing(tiny_model, pixel_values, label_inputs, monkeypatch):
    whole = scores_of(tiny_model, pixel_values, label_inputs, output_transport_plan=True)
    monkeypatch.setattr("ram_hf.model.matching._PLAN_ENTRIES_AT_ONCE", 1)
    pieces = scores_of(tiny_model, pixel_values, label_inputs, output_transport_plan=True)
    torch.testing.assert_close(pieces.scores, whole.scores, **ROUNDING)
    torch.testing.assert_close(pieces.transport_plan, whole.transport_plan, atol=1e-7, rtol=1e-5)


def test_normalize_plan_frees_the_local_logits_of_the_label_count(tiny_model, pixel_values):
    """The same labels over and over: each copy has the local logit of the original, not a share of it."""
    features = torch.randn(5, 48, generator=torch.Generator().manual_seed(2))
    # Sinkhorn to the end, and the softmax of the cost taken out, which does depend on the number of labels.
    tiny_model.config.sinkhorn_tolerance, tiny_model.config.epsilon = 0.0, 1e4
    with torch.no_grad():
        few = tiny_model(pixel_values, label_features=features).local_logits
        many = tiny_model(pixel_values, label_features=features.repeat(20, 1)).local_logits
        tiny_model.config.normalize_plan = False
        share = tiny_model(pixel_values, label_features=features.repeat(20, 1)).local_logits
    torch.testing.assert_close(many[:, :5], few, atol=5e-3, rtol=1e-3)
    torch.testing.assert_close(share * 100, many)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close_and_matches_in_float32(tiny_model, pixel_values, label_inputs, dtype, tmp_path):
    expected = scores_of(tiny_model, pixel_values, label_inputs)
    tiny_model.save_pretrained(tmp_path)
    half = RamModel.from_pretrained(tmp_path, dtype=dtype)
    assert half.dtype == dtype
    assert half.temperatures.local_temperature.dtype == torch.float32
    output = scores_of(half, pixel_values.to(dtype), label_inputs, output_transport_plan=True)
    assert output.scores.dtype == output.transport_plan.dtype == torch.float32
    torch.testing.assert_close(output.scores.sum(dim=1), torch.ones(3))
    assert (output.patch_embeds - expected.patch_embeds).abs().max() < 0.05
    half.save_pretrained(tmp_path / "again")
    assert RamModel.from_pretrained(tmp_path / "again").dtype == dtype


def test_autocast_matches_in_float32(tiny_model, pixel_values, label_inputs):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = scores_of(tiny_model, pixel_values, label_inputs, output_transport_plan=True)
    similarity = output.patch_embeds @ output.label_embeds.T  # in float32: bfloat16 would be off by 1e-2
    local = len(LABELS) * (output.transport_plan * similarity).sum(dim=1) / tiny_model.config.local_temperature
    torch.testing.assert_close(output.local_logits, local, atol=1e-2, rtol=1e-4)
    remembered = scores_of(tiny_model, pixel_values, label_inputs)  # not what autocast computed
    assert remembered.label_embeds.dtype == torch.float32
    torch.testing.assert_close(remembered.scores, copy.deepcopy(tiny_model)(pixel_values, **label_inputs).scores)


# --- labels ------------------------------------------------------------------------------------------------------


def test_prompts_leave_out_the_last_positions_of_a_full_context(tiny_model):
    """77 positions stay 77: with 4 prompts in, positions 73 and later skip the prompted layers."""
    text = tiny_model.config.clip_config.text_config
    ids = torch.full((1, 77), 5)
    ids[0, 0], ids[0, 75] = text.bos_token_id, text.eos_token_id
    layers = tiny_model.clip.text_model.encoder.layers
    with torch.no_grad():
        actual = tiny_model.get_label_features(ids)
        states, ends = tiny_model.label_encoder._states_below(tiny_model.clip, len(layers) - 3, ids)
        assert states.shape[1] == 76
        end_state = states[:, ends[0]]
        projected = tiny_model.clip.text_projection(tiny_model.clip.text_model.final_layer_norm(end_state))
    assert list(tiny_model.prompts) == [str(index) for index in range(len(layers))][-3:]
    torch.testing.assert_close(actual, projected)  # the end token passed the three prompted layers unchanged


def test_prompts_change_the_label_features(tiny_model, label_inputs):
    with torch.no_grad():
        before = tiny_model.get_label_features(**label_inputs)
        tiny_model.prompts["2"].tokens.copy_(torch.randn(4, 32))
        after = tiny_model.get_label_features(**label_inputs)
    assert (before - after).abs().max() > 1e-3


@pytest.mark.parametrize(
    "change", ["in place", "loading", "casting", "prompts through data", "other labels", "the same tensor refilled"]
)
def test_remembered_label_features_are_dropped_when_something_changes(tiny_model, label_inputs, change):
    fresh = copy.deepcopy(tiny_model)
    ids = label_inputs["input_ids"]
    with torch.no_grad():
        runs = []
        tiny_model.clip.text_projection.register_forward_hook(lambda *_: runs.append(1))
        first = tiny_model.get_label_features(ids)
        first.mul_(0)  # what a caller does to his copy is his own affair
        once = len(runs)
        torch.testing.assert_close(tiny_model.get_label_features(ids.clone()), fresh.get_label_features(ids))
        assert len(runs) == once
        if change == "in place":
            for model in (tiny_model, fresh):
                model.clip.text_projection.weight.mul_(2)
        elif change == "loading":
            state = {name: value * 1.5 for name, value in tiny_model.state_dict().items()}
            for model in (tiny_model, fresh):
                model.load_state_dict(state)
        elif change == "casting":
            tiny_model.double()
            fresh.double()
        elif change == "prompts through data":
            for model in (tiny_model, fresh):
                model.prompts["2"].tokens.data.copy_(torch.arange(4 * 32).view(4, 32).cos())
        elif change == "other labels":
            ids = ids.flip(0)
        else:
            ids.copy_(ids.flip(0))
        second = tiny_model.get_label_features(ids)
        assert len(runs) == 2 * once
        torch.testing.assert_close(second, fresh.get_label_features(ids))


def test_an_adapter_that_is_switched_off_has_no_effect(tiny_model, pixel_values, label_inputs):
    plain = scores_of(tiny_model, pixel_values, label_inputs).scores
    add_low_rank(tiny_model.clip.text_model)
    adapters = [layer.self_attn.q_proj for layer in tiny_model.clip.text_model.encoder.layers]
    adapted = scores_of(tiny_model, pixel_values, label_inputs).scores
    assert not torch.allclose(adapted, plain, atol=1e-6)
    for is_on, expected in ((False, plain), (True, adapted)):
        for adapter in adapters:
            adapter.is_on = is_on
        torch.testing.assert_close(scores_of(tiny_model, pixel_values, label_inputs).scores, expected)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, for names that PEFT still uses
@pytest.mark.parametrize("modules", [["q_proj", "v_proj"], ["fc1"], ["text_projection"]])
def test_peft_switches_its_adapters(tiny_model, pixel_values, label_inputs, modules):
    peft = pytest.importorskip("peft")
    plain = scores_of(tiny_model, pixel_values, label_inputs).scores
    settings = peft.LoraConfig(r=2, target_modules=modules, init_lora_weights=False)
    model = peft.get_peft_model(tiny_model, settings).eval()
    adapted = scores_of(model, pixel_values, label_inputs).scores
    assert not torch.allclose(adapted, plain, atol=1e-6)
    with model.disable_adapter():
        torch.testing.assert_close(scores_of(model, pixel_values, label_inputs).scores, plain)
    torch.testing.assert_close(scores_of(model, pixel_values, label_inputs).scores, adapted)
    merged = model.merge_and_unload()
    torch.testing.assert_close(scores_of(merged, pixel_values, label_inputs).scores, adapted, **ROUNDING)


def test_legacy_end_token_is_the_largest_id(tiny_processor, label_inputs):
    model = RamModel(make_config(text_config={"eos_token_id": 2})).eval()
    same = RamModel(make_config()).eval()
    same.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model.get_label_features(**label_inputs), same.get_label_features(**label_inputs))


# --- training ----------------------------------------------------------------------------------------------------


TARGETS = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1]])


def test_gradients_reach_exactly_the_trainable_set(tiny_model, pixel_values, label_inputs):
    tiny_model.train()
    tiny_model(pixel_values, **label_inputs, labels=TARGETS).loss.backward()
    for name, parameter in tiny_model.named_parameters():
        frozen = name.startswith("clip.")
        assert parameter.requires_grad != frozen, name
        assert (parameter.grad is None) == frozen, name
        if not frozen:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_the_loss_falls_over_ten_steps_on_one_batch(tiny_model, pixel_values, label_inputs):
    tiny_model.train()
    optimizer = torch.optim.AdamW([p for p in tiny_model.parameters() if p.requires_grad], lr=1e-4)
    losses = []
    for _ in range(10):
        loss = tiny_model(pixel_values, **label_inputs, labels=TARGETS).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.1


def test_loss_is_that_of_the_plain_equations(tiny_model, pixel_values, label_inputs):
    """Teacher and constrained plan from separate computations, as if the teacher were a second model."""
    tiny_model.train()
    output = tiny_model(pixel_values, **label_inputs, labels=TARGETS, output_transport_plan=True)
    teacher = RamModel.from_clip(tiny_model.clip, config={"local_attention": "value"})
    with torch.no_grad():
        teacher_labels = F.normalize(teacher.get_label_features(**label_inputs), dim=-1)
        # Any labels do: without adapters the patches do not read them.
        patches = F.normalize(teacher.get_patch_features(pixel_values, teacher_labels), dim=-1)
        alpha = tiny_model.clip.logit_scale.exp()
        q = (20 * (alpha * patches @ teacher_labels.T).softmax(dim=2)).softmax(dim=1)
        q = torch.where(TARGETS[:, None] == 0, q.min(), q)
        s = output.patch_embeds @ output.label_embeds.T
        kernel = (-(1 - (alpha * s).softmax(dim=2) - 0.05 * q.log()) / 0.15).exp().double()
        u = (s.amax(dim=2) / 0.1).softmax(dim=1).double()
        column = torch.ones(3, 4, 1, dtype=torch.double)
        for _ in range(500):
            row = u[..., None] / (kernel @ column)
            column = 0.25 / (kernel.mT @ row)
        plan = row * kernel * column.mT
    torch.testing.assert_close(output.transport_plan.double(), plan, atol=1e-3, rtol=1e-2)
    positive = TARGETS == 1
    total = sum(-(x[positive] - x.logsumexp(dim=(0, 1))).mean() for x in (output.global_logits, output.local_logits))
    torch.testing.assert_close(output.loss, total)


def test_evaluation_has_no_teacher(tiny_model, pixel_values, label_inputs, monkeypatch):
    plain = scores_of(tiny_model, pixel_values, label_inputs)
    with_labels = scores_of(tiny_model, pixel_values, label_inputs, labels=TARGETS)
    torch.testing.assert_close(plain.scores, with_labels.scores)
    assert with_labels.loss.isfinite()


def test_unknown_labels_take_the_asymmetric_loss(tiny_model, pixel_values, label_inputs):
    targets = TARGETS.clone()
    targets[0, 1] = targets[2, 0] = -1
    tiny_model.train()
    output = tiny_model(pixel_values, **label_inputs, labels=targets)
    output.loss.backward()
    known = targets >= 0
    expected = 0.0
    for logits in (output.global_logits, output.local_logits):
        p = logits.double().softmax(dim=1)
        shifted = (p - 0.05).clamp(min=0)
        terms = torch.where(targets == 1, (1 - p) * -p.log(), shifted**4 * -(1 - shifted).log())
        expected += terms[known].sum() / 3
    assert output.loss.item() == pytest.approx(expected.item(), rel=1e-3)
    assert tiny_model.temperatures.local_temperature.grad.isfinite()


def test_the_teacher_keeps_its_word_on_unknown_labels(tiny_model, pixel_values, label_inputs):
    """Known absence lowers the teacher's word on a label, ignorance does not."""
    tiny_model.train()
    costs = []
    for value in (0, -1):
        targets = TARGETS.clone()
        targets[0, 1] = value
        streams = tiny_model.image_encoder.encode_below(
            tiny_model.clip, tiny_model.ladder, pixel_values, False, LayerRecord()
        )
        costs.append(tiny_model._teacher_costs(streams, label_inputs["input_ids"], targets))
    assert (costs[0][0, :, 1] == costs[0].max()).all()
    assert not (costs[1][0, :, 1] == costs[1].max()).all()


def test_without_weight_there_is_no_teacher(tiny_model, pixel_values, label_inputs, monkeypatch):
    tiny_model.config.teacher_weight = 0.0
    monkeypatch.setattr(ImageEncoder, "encode_for_teacher", None)
    monkeypatch.setattr(LabelEncoder, "encode_for_teacher", None)
    with torch.no_grad():
        features = tiny_model.get_label_features(**label_inputs)
    tiny_model.train()
    tiny_model(pixel_values, label_features=features, labels=TARGETS).loss.backward()


@pytest.mark.parametrize("grad", [True, False])
def test_both_sides_export(tiny_model, pixel_values, label_inputs, grad):
    """With a fixed number of iterations, text and image side are graphs of their own."""

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_model

        def forward(self, input_ids):
            return self.model.get_label_features(input_ids)

    class Images(Text):
        def forward(self, pixel_values, label_features):
            return self.model(pixel_values, label_features=label_features).scores

    tiny_model.config.sinkhorn_tolerance, tiny_model.config.sinkhorn_max_iterations = 0.0, 20
    ids = label_inputs["input_ids"]
    with torch.set_grad_enabled(grad):
        features = torch.export.export(Text(), (ids,)).module()(ids)
        torch.testing.assert_close(features, tiny_model.get_label_features(ids))
        scores = torch.export.export(Images(), (pixel_values, features)).module()(pixel_values, features)
        torch.testing.assert_close(scores, tiny_model(pixel_values, label_features=features).scores, **ROUNDING)


@pytest.mark.parametrize("labels_as", ["ids", "features"])
def test_it_compiles_and_exports_as_one_graph(tiny_model, pixel_values, label_inputs, labels_as):
    """With the default tolerance: the early exit of a CPU asks for no value while a graph is made."""
    with torch.no_grad():
        inputs = (
            label_inputs if labels_as == "ids" else {"label_features": tiny_model.get_label_features(**label_inputs)}
        )
        expected = tiny_model(pixel_values, **inputs).scores
        torch.compiler.reset()
        compiled = torch.compile(tiny_model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(pixel_values, **inputs).scores, expected, **ROUNDING)
        exported = torch.export.export(tiny_model, (pixel_values,), inputs).module()
        torch.testing.assert_close(exported(pixel_values, **inputs).scores, expected, **ROUNDING)


def test_the_trainer_of_transformers_takes_it(tiny_model, pixel_values, label_inputs, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    rows = [{"pixel_values": pixel_values[i % 3], "labels": TARGETS[i % 3]} for i in range(8)]

    def collate(batch):
        stacked = {name: torch.stack([row[name] for row in batch]) for name in batch[0]}
        return {**stacked, **label_inputs}

    arguments = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=1,
        load_best_model_at_end=True,  # by the evaluation's loss
        report_to=[],
    )
    trainer = transformers.Trainer(tiny_model, arguments, data_collator=collate, train_dataset=rows, eval_dataset=rows)
    assert trainer.label_names == ["labels"]
    assert math.isfinite(trainer.train().training_loss)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(trainer.state.best_metric, rel=1e-4)
    assert [values.shape for values in trainer.predict(rows).predictions] == [(8, len(LABELS))] * 2  # scores, logits


def test_frozen_work_is_done_once(tiny_model, pixel_values, label_inputs):
    """Training: below the ladder one pass for student and teacher; below the prompts, once per label list."""
    calls = {"vision": 0, "text": 0}
    tiny_model.clip.vision_model.encoder.layers[0].mlp.register_forward_hook(
        lambda *_: calls.update(vision=calls["vision"] + 1)
    )
    tiny_model.clip.text_model.encoder.layers[0].mlp.register_forward_hook(
        lambda *_: calls.update(text=calls["text"] + 1)
    )
    tiny_model.train()
    for _ in range(3):
        tiny_model(pixel_values, **label_inputs, labels=TARGETS)
    assert calls == {"vision": 3, "text": 1}


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model, pixel_values, label_inputs):
    gradients, statistics = [], []
    for reentrant in (None, False, True):
        model = copy.deepcopy(tiny_model).train()
        if reentrant is not None:
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": reentrant})
            assert model.ladder["4"].streams.gradient_checkpointing
            assert model.prompts["2"].gradient_checkpointing
        model(pixel_values, **label_inputs, labels=TARGETS).loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
        statistics.append({name: value for name, value in model.named_buffers() if name.startswith("ladder.")})
    for kind in (1, 2):
        for plain, checkpointed in zip(gradients[0], gradients[kind], strict=True):
            torch.testing.assert_close(plain, checkpointed, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(statistics[kind], statistics[0])  # each batch counted once


class LowRank(torch.nn.Module):
    """A frozen linear layer with a trainable low-rank one beside it, and a switch, as adapter libraries have them."""

    def __init__(self, base):
        super().__init__()
        self.base, self.is_on = base, True
        self.down = torch.nn.Linear(base.in_features, 2, bias=False)
        self.up = torch.nn.Linear(2, base.out_features, bias=False)

    def forward(self, states):
        return self.base(states) + self.up(self.down(states)) if self.is_on else self.base(states)


def add_low_rank(tower):
    for layer in tower.encoder.layers:
        layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj)


def unfreeze_all(model):
    model.clip.requires_grad_(True)


def unfreeze_one_text_layer(model):
    model.clip.text_model.encoder.layers[0].requires_grad_(True)


def unfreeze_one_vision_layer(model):
    model.clip.vision_model.encoder.layers[0].requires_grad_(True)


def low_rank_in_both_towers(model):
    add_low_rank(model.clip.text_model)
    add_low_rank(model.clip.vision_model)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "unfreeze", [unfreeze_all, unfreeze_one_text_layer, unfreeze_one_vision_layer, low_rank_in_both_towers]
)
def test_gradient_checkpointing_loses_no_gradient_of_clip(tiny_model, pixel_values, label_inputs, unfreeze, reentrant):
    unfreeze(tiny_model)
    gradients = []
    for checkpoints in (False, True):
        model = copy.deepcopy(tiny_model).train()
        if checkpoints:
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": reentrant})
        model(pixel_values, **label_inputs, labels=TARGETS).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


# --- loading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_shard_size", ["50GB", "300KB", "7KB"])
def test_scores_are_the_same_to_the_bit_wherever_a_file_begins_a_tensor(
    max_shard_size, tiny_model, label_inputs, tmp_path
):
    tiny_model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    loaded = RamModel.from_pretrained(tmp_path)
    for seed in range(3):
        pixel_values = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        ours, theirs = (model(pixel_values, **label_inputs) for model in (tiny_model, loaded))
        assert torch.equal(ours.scores, theirs.scores)
        assert torch.equal(ours.global_logits, theirs.global_logits)


def test_save_and_load_give_equal_scores(tiny_model, pixel_values, label_inputs, tmp_path):
    tiny_model.temperatures.local_temperature.data.fill_(0.0123)
    expected = scores_of(tiny_model, pixel_values, label_inputs).scores
    tiny_model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert not list(tmp_path.glob("*.bin"))
    for loaded in (
        RamModel.from_pretrained(tmp_path),
        AutoModel.from_pretrained(tmp_path),
        AutoModelForZeroShotImageClassification.from_pretrained(tmp_path),
    ):
        assert type(loaded) is RamModel
        assert not loaded.training
        assert torch.equal(scores_of(loaded, pixel_values, label_inputs).scores, expected)
        assert not any(p.requires_grad for p in loaded.clip.parameters())
        assert all(p.requires_grad for name, p in loaded.named_parameters() if not name.startswith("clip."))


@pytest.mark.parametrize(
    "device_map",
    [
        "cpu",
        {
            "clip.logit_scale": "cpu",
            "clip.visual_projection": "cpu",
            "clip.text_projection": "cpu",
            "clip.text_model.embeddings": "cpu",
            "clip.text_model.encoder": "disk",
            "clip.text_model.final_layer_norm": "cpu",
            "clip.vision_model.embeddings": "cpu",
            "clip.vision_model.pre_layrnorm": "cpu",
            "clip.vision_model.encoder": "disk",
            "clip.vision_model.post_layernorm": "cpu",
            "ladder": "disk",
            "prompts": "disk",
            "temperatures": "cpu",
        },
        {"": "disk"},
        {
            "clip": "disk",
            "ladder": "cpu",
            "prompts": "disk",
            "label_encoder": "cpu",
            "image_encoder": "cpu",
            "temperatures": "disk",
        },
        "auto",
    ],
    ids=["cpu", "layers on disk", "disk", "CLIP and temperatures on disk", "as much as fits"],
)
def test_device_map(tiny_model, pixel_values, label_inputs, tmp_path, device_map):
    """Also with CLIP's weights on disk, fetched layer by layer, although its layers are not called as a whole."""
    expected = scores_of(tiny_model, pixel_values, label_inputs).scores
    tiny_model.save_pretrained(tmp_path)
    options = {"max_memory": {"cpu": 300_000}} if device_map == "auto" else {}
    model = RamModel.from_pretrained(
        tmp_path, device_map=device_map, offload_folder=tmp_path / "offload", **options
    ).eval()
    with torch.no_grad():
        features = model.get_label_features(**label_inputs)
        for inputs in (label_inputs, {"label_features": features}):
            torch.testing.assert_close(model(pixel_values, **inputs).scores, expected, **ROUNDING)
        for part in ("get_image_features", "get_patch_features"):
            inputs = (pixel_values, features)[: 1 if part == "get_image_features" else 2]
            torch.testing.assert_close(getattr(model, part)(*inputs), getattr(tiny_model, part)(*inputs), **ROUNDING)


def test_numbers_that_a_checkpoint_lacks_are_initialised(tiny_model, tmp_path):
    """Bare CLIP weights: everything of ours must come out as `_init_weights` says, not as uninitialised memory."""
    state = {name: value for name, value in tiny_model.state_dict().items() if name.startswith("clip.")}
    config = make_config(local_temperature=0.005)
    model = RamModel.from_pretrained(None, config=config, state_dict=state)
    assert model.temperatures.local_temperature.item() == pytest.approx(0.005)
    assert model.temperatures.global_temperature.item() == pytest.approx(math.exp(-3.0))
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), name
    for layer in model.ladder.values():
        assert 0.01 < layer.tokens.std() < 0.04
        assert torch.equal(layer.adapter.point_batch_norm.running_var, torch.ones(48))
        assert torch.equal(layer.adapter.label_norm.weight, torch.ones(48))
    assert torch.equal(model.clip.logit_scale, tiny_model.clip.logit_scale)


def test_meta_device(tiny_config):
    with torch.device("meta"):
        model = RamModel(tiny_config)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attention_implementation_reaches_both_towers(
    tiny_model, pixel_values, label_inputs, tmp_path, implementation
):
    expected = scores_of(tiny_model, pixel_values, label_inputs).scores
    tiny_model.save_pretrained(tmp_path)
    model = RamModel.from_pretrained(tmp_path, attn_implementation=implementation)
    assert model.clip.vision_model.config._attn_implementation == implementation
    assert model.clip.text_model.config._attn_implementation == implementation
    torch.testing.assert_close(scores_of(model, pixel_values, label_inputs).scores, expected, atol=1e-5, rtol=1e-4)
    model.set_attn_implementation("eager")
    assert model.clip.vision_model.config._attn_implementation == "eager"


def test_other_image_sizes(tiny_model, label_inputs):
    wide = torch.randn(2, 3, 32, 48)
    with pytest.raises(ValueError, match="32 x 48 pixels but this model takes 32 x 32"):
        scores_of(tiny_model, wide, label_inputs)
    output = scores_of(tiny_model, wide, label_inputs, interpolate_pos_encoding=True)
    assert output.patch_embeds.shape[1] == 4 * 6


def test_a_tuple_when_asked(tiny_model, pixel_values, label_inputs):
    values = scores_of(tiny_model, pixel_values, label_inputs, return_dict=False)
    assert isinstance(values, tuple)
    assert values[0].shape == (3, len(LABELS))


def test_100_000_labels_match_in_bounded_memory(tiny_model, pixel_values, monkeypatch):
    features = torch.randn(100_000, 48, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr("ram_hf.model.matching._PLAN_ENTRIES_AT_ONCE", 2**21)  # one image of 16 patches
    sizes = []
    monkeypatch.setattr(
        "ram_hf.model.matching.sinkhorn", lambda cost, *a, **k: sizes.append(cost.shape) or sinkhorn(cost, *a, **k)
    )
    with torch.no_grad():
        output = tiny_model(pixel_values[:2], label_features=features)
    assert sizes == [(1, 16, 100_000)] * 2
    torch.testing.assert_close(output.scores.sum(dim=1), torch.ones(2), atol=1e-3, rtol=0)


# --- from_clip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vision",
    [
        {"patch_size": 16, "hidden_act": "gelu"},
        {"hidden_size": 80, "num_attention_heads": 5, "image_size": 48},
        {"num_hidden_layers": 2},
    ],
)
def test_any_clip_shape(tmp_path, vision, tiny_processor):
    config = make_config(vision_config=vision)
    clip = CLIPModel(config.clip_config).eval()
    clip.save_pretrained(tmp_path)
    model = RamModel.from_clip(str(tmp_path))
    size = config.clip_config.vision_config.image_size
    output = scores_of(model, torch.randn(1, 3, size, size), dict(tiny_processor(labels=["a", "b"])))
    torch.testing.assert_close(output.scores.sum(), torch.tensor(1.0))
    for name, value in clip.state_dict().items():
        assert torch.equal(model.clip.state_dict()[name], value), name
    assert model.config.base_model_name_or_path == str(tmp_path)
    assert model.config.ladder_tokens == model.config.prompt_tokens == 0
    assert model.temperatures.global_temperature.item() == pytest.approx(math.exp(-clip.logit_scale.item()))


def test_a_clip_that_never_initialised_itself_keeps_its_weights(tiny_model):
    """`transformers` marks what it has initialised; weights that came another way carry no mark."""
    with torch.device("meta"):
        clip = CLIPModel(tiny_model.config.clip_config)
    clip = clip.to_empty(device="cpu")
    clip.load_state_dict(tiny_model.clip.state_dict())
    for module in clip.modules():
        module._is_hf_initialized = False
    model = RamModel(make_config(), clip=clip)
    for name, value in tiny_model.clip.state_dict().items():
        assert torch.equal(model.clip.state_dict()[name], value), name


def test_a_half_precision_clip_configuration_builds_one_dtype(tiny_config, pixel_values, label_inputs):
    config = make_config()
    config.clip_config.dtype = torch.float16
    model = RamModel(config).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert scores_of(model, pixel_values, label_inputs).scores.isfinite().all()


def test_float16_holds_channels_of_large_variance(tiny_model, pixel_values, label_inputs, tmp_path):
    """A trained adapter has variances above 65,504, float16's largest number."""
    for layer in tiny_model.ladder.values():
        layer.adapter.area_conv.weight.data.mul_(1000)
        layer.adapter.area_batch_norm.running_var.fill_(1e5)
    tiny_model.save_pretrained(tmp_path)
    half = RamModel.from_pretrained(tmp_path, dtype=torch.float16)
    assert half.dtype == torch.float16
    assert half.ladder["2"].adapter.area_batch_norm.running_var.dtype == torch.float32
    expected = scores_of(tiny_model, pixel_values, label_inputs)
    found = scores_of(half, pixel_values.half(), label_inputs)
    torch.testing.assert_close(found.patch_embeds, expected.patch_embeds, rtol=0, atol=0.02)


def test_from_clip_sets_the_local_temperature_by_clips_own(tiny_model):
    """Whatever the scale of a CLIP's logits; a plan that is not normalised has another unit, and a wish goes first."""
    clip = tiny_model.clip
    expected = 4 / clip.logit_scale.exp().item()
    transported = RamModel.from_clip(clip, config={"aggregation": "transport"})
    assert transported.temperatures.local_temperature.item() == pytest.approx(expected)
    plain = RamModel.from_clip(clip, config={"aggregation": "transport", "normalize_plan": False})
    assert plain.temperatures.local_temperature.item() == pytest.approx(2e-3)
    wished = RamModel.from_clip(clip, config={"local_temperature": 0.03})
    assert wished.temperatures.local_temperature.item() == pytest.approx(0.03)


def test_from_clip_tells_the_commit_of_a_hub_checkpoint(tiny_model, tmp_path, monkeypatch):
    """As the Hub's cache lays it out: a reference to a commit, and a snapshot of it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--clip"
    tiny_model.clip.save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    model = RamModel.from_clip("someone/clip", cache_dir=str(tmp_path), local_files_only=True)
    assert model.config.base_model_name_or_path == "someone/clip"
    assert model.config.base_model_revision == commit


def test_from_clip_keeps_a_revision_without_a_commit(tiny_model, tmp_path):
    """A folder has no commit: what the caller asked for is all there is to tell."""
    tiny_model.clip.save_pretrained(tmp_path)
    assert RamModel.from_clip(tmp_path, revision="v2").config.base_model_revision == "v2"
    assert RamModel.from_clip(tmp_path).config.base_model_revision is None


def test_label_states_are_not_remembered_while_the_text_tower_trains(tiny_model, pixel_values, label_inputs):
    tiny_model.clip.text_model.requires_grad_(True)
    tiny_model.train()
    embedding = tiny_model.clip.text_model.embeddings.token_embedding.weight
    for _ in range(2):
        embedding.grad = None
        tiny_model(pixel_values, **label_inputs, labels=TARGETS).loss.backward()
        assert embedding.grad.any()


def test_a_teacher_of_any_sharpness_gives_a_finite_plan(tiny_model, pixel_values, label_inputs):
    tiny_model.config.teacher_sharpness, tiny_model.config.teacher_weight = 2000.0, 0.5
    output = tiny_model.train()(pixel_values, **label_inputs, labels=TARGETS, output_transport_plan=True)
    assert output.transport_plan.isfinite().all()
    torch.testing.assert_close(output.transport_plan.sum(dim=1), torch.full((3, 4), 0.25), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("size", "grid"), [((), (4, 4)), ((40, 64), (5, 8)), ((39, 71), (4, 8))])
def test_patch_grid(tiny_config, size, grid):
    assert tiny_config.patch_grid(*size) == grid


def test_another_model_is_refused_by_its_name(tiny_model):
    for other in (tiny_model.clip.vision_model, tiny_model, None):
        with pytest.raises(TypeError, match=f"not a {type(other).__name__}"):
            RamModel.from_clip(other)


def test_no_path_of_this_machine_is_saved(tiny_model, tmp_path, monkeypatch):
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    for name in (tmp_path / "clip", str(tmp_path / "clip"), "clip", "./clip"):
        model = RamModel.from_clip(name)
        assert model.config.base_model_name_or_path == str(name)  # here it is known
        model.save_pretrained(tmp_path / "ram")
        config = json.loads((tmp_path / "ram" / "config.json").read_text())
        assert "base_model_name_or_path" not in config
        assert "_name_or_path" not in config["clip_config"]
        assert str(tmp_path) not in json.dumps(config)
    model.config.base_model_name_or_path = "owner/clip"
    model.save_pretrained(tmp_path / "ram")
    assert RamConfig.from_pretrained(tmp_path / "ram").base_model_name_or_path == "owner/clip"


def test_from_clip_in_a_subfolder(tiny_model, tmp_path):
    tiny_model.clip.save_pretrained(tmp_path / "tower")
    model = RamModel.from_clip(tmp_path, subfolder="tower")
    assert torch.equal(model.clip.logit_scale, tiny_model.clip.logit_scale)
    with pytest.raises((ValueError, OSError), match=r"config\.json"):
        RamModel.from_clip(tmp_path)


def test_from_clip_passes_loading_options_on(tiny_model, tmp_path):
    tiny_model.clip.save_pretrained(tmp_path)
    model = RamModel.from_clip(
        tmp_path, dtype=torch.bfloat16, attn_implementation="eager", config={"epsilon": 0.2, "ladder_layers": [4]}
    )
    assert {p.dtype for n, p in model.named_parameters() if not n.startswith("temperatures")} == {torch.bfloat16}
    assert model.temperatures.local_temperature.dtype == torch.float32
    assert model.clip.vision_model.config._attn_implementation == "eager"
    assert (model.config.epsilon, model.config.ladder_layers) == (0.2, [4])


def test_from_clip_saved_and_loaded_stays_the_same(tiny_model, pixel_values, label_inputs, tmp_path):
    model = RamModel.from_clip(tiny_model.clip)
    expected = scores_of(model, pixel_values, label_inputs).scores
    model.save_pretrained(tmp_path)
    loaded = RamModel.from_pretrained(tmp_path)
    assert torch.equal(scores_of(loaded, pixel_values, label_inputs).scores, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"aggregation": "transport", "local_attention": "value"},
        {"aggregate_similar": True, "repair_outliers": True},
    ],
)
def test_what_would_add_nothing_is_left_out(tiny_model, pixel_values, label_inputs, fields):
    """Scores and probabilities are to the bit those with adapters that were not trained."""
    lean = RamModel.from_clip(tiny_model.clip, config=fields)
    full = RamModel.from_clip(tiny_model.clip, config={**fields, "ladder_layers": None})
    assert not lean.ladder
    assert list(full.ladder) == ["2", "3", "4"]
    weights = {"evidence_weights": [0.4, 0.02], "statistics_weights": [0.1] * 6, "bias": 0.0, "threshold": 0.5}
    for model in (lean, full):
        reference = torch.randn(5, 48, generator=torch.Generator().manual_seed(2))
        model.set_reference_labels(["a", "b", "c", "d", "e"], reference)
        model.config.calibration = weights
    found, expected = (scores_of(model, pixel_values, label_inputs) for model in (lean, full))
    for name in ("scores", "patch_embeds", "local_logits", "probabilities"):
        assert torch.equal(found[name], expected[name]), name
    assert torch.equal(found.vision_model_output.last_hidden_state, expected.vision_model_output.last_hidden_state)
    with torch.no_grad():
        stored = lean.score_stored(lean.encode_images(pixel_values), lean.get_label_features(**label_inputs))
    assert torch.equal(stored.probabilities, found.probabilities)


def test_without_adapters_no_layer_runs_twice(tiny_model, pixel_values, label_inputs):
    model = RamModel.from_clip(tiny_model.clip)
    model.set_reference_labels(["a", "b"], torch.randn(2, 48))
    weights = {"evidence_weights": [1.0, 1.0], "statistics_weights": [0.0] * 6, "bias": 0.0, "threshold": 0.5}
    model.config.calibration = weights
    runs = []
    for layer in model.clip.vision_model.encoder.layers:
        layer.mlp.register_forward_hook(lambda module, inputs, output: runs.append(module))
    assert scores_of(model, pixel_values, label_inputs).probabilities is not None
    assert runs == [layer.mlp for layer in model.clip.vision_model.encoder.layers]


def test_adapters_come_with_training(tiny_model, pixel_values, label_inputs, tmp_path):
    """Also to a training-free model that was saved without any; they begin by adding nothing."""
    model = RamModel.from_clip(tiny_model.clip)
    expected = scores_of(model, pixel_values, label_inputs).scores
    model.save_pretrained(tmp_path)
    loaded = RamModel.from_pretrained(tmp_path)
    assert not loaded.ladder
    assert not loaded.tensors_not_loaded
    loaded.add_learned_tokens(ladder_tokens=0, prompt_tokens=0)
    assert loaded.config.ladder_layers == [2, 3, 4]
    assert not any(module.training for module in loaded.modules())
    assert torch.equal(scores_of(loaded, pixel_values, label_inputs).scores, expected)
    loaded.train()(pixel_values, **label_inputs, labels=TARGETS).loss.backward()
    assert all(layer.adapter.output_conv.weight.grad.any() for layer in loaded.ladder.values())


def test_statistics_of_adapters_stay_in_their_precision(tiny_model):
    model = RamModel.from_clip(tiny_model.clip.half(), config={"ladder_layers": [4]})
    statistics = model.ladder["4"].adapter.area_batch_norm.float()  # as `from_pretrained` leaves them
    torch.nn.init.constant_(statistics.running_var, 1e5)  # more than float16 holds
    model.add_learned_tokens(ladder_tokens=2)
    assert model.ladder["4"].adapter.area_batch_norm.running_var.isfinite().all()
    assert model.ladder["4"].tokens.dtype == torch.float16


def test_adapters_that_are_there_stay(tiny_model):
    model = RamModel.from_clip(tiny_model.clip, config={"ladder_layers": [4]})
    layer = model.ladder["4"]
    torch.nn.init.normal_(layer.adapter.output_conv.weight)
    adapter = {name: tensor.clone() for name, tensor in layer.adapter.state_dict().items()}
    model.add_learned_tokens(ladder_tokens=2)
    assert list(model.ladder) == ["4"]
    assert model.ladder["4"] is layer  # with its hooks, and whether it is computed again for its gradient
    assert model.ladder["4"].tokens.shape == (2, 64)
    assert all(torch.equal(tensor, adapter[name]) for name, tensor in model.ladder["4"].adapter.state_dict().items())


def test_adapters_come_into_the_layers_that_are_asked_for(tiny_model):
    for layers in ([4, 1], []):
        model = RamModel.from_clip(tiny_model.clip)
        model.add_learned_tokens(ladder_layers=layers)
        assert list(model.ladder) == [str(layer) for layer in sorted(layers)]
    model = RamModel.from_clip(tiny_model.clip, config={"ladder_layers": [4]})
    with pytest.raises(ValueError, match=r"has adapters in layers \[4\], so they cannot be in \[1\]"):
        model.add_learned_tokens(ladder_layers=[1])
    model.add_learned_tokens(ladder_layers=[4])


def test_ladder_tokens_that_are_asked_for_are_not_left_out(tiny_model):
    model = RamModel.from_clip(tiny_model.clip, config={"ladder_tokens": 2})
    assert model.ladder["4"].tokens.shape == (2, 64)


def test_learned_tokens_come_with_training(tiny_model, pixel_values, label_inputs, tmp_path):
    model = RamModel.from_clip(tiny_model.clip)
    assert not model.prompts
    model.add_learned_tokens(ladder_tokens=5, prompt_tokens=3)
    assert model.ladder["4"].tokens.shape == (5, 64)
    assert model.prompts["3"].tokens.shape == (3, 32)
    assert not any(p.requires_grad for p in model.clip.parameters())
    assert not model.ladder["4"].adapter.output_conv.weight.any()
    expected = scores_of(model, pixel_values, label_inputs).scores
    model.save_pretrained(tmp_path)
    assert torch.equal(scores_of(RamModel.from_pretrained(tmp_path), pixel_values, label_inputs).scores, expected)
    fresh = RamModel.from_clip(tiny_model.clip)
    with pytest.raises(ValueError, match="`prompt_tokens` must be between 0 and 75, got 90"):
        fresh.add_learned_tokens(prompt_tokens=90)
    assert (fresh.config.prompt_tokens, fresh.config.ladder_layers) == (0, [])
    with pytest.raises(ValueError, match="5 ladder tokens and 3 prompts already"):
        model.add_learned_tokens()


def test_from_clip_refuses_what_it_cannot_wrap(tiny_model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder '\./nowhere'"):
        RamModel.from_clip("./nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no folder '\./nowhere'"):
        RamModel.from_pretrained("./nowhere")
    tiny_model.save_pretrained(tmp_path / "ram")
    with pytest.raises(ValueError, match="is a RAM model already: load it with `from_pretrained`"):
        RamModel.from_clip(tmp_path / "ram")
    tiny_model.clip.save_pretrained(tmp_path / "clip")
    with pytest.raises(ValueError, match=r"A CLIP checkpoint is wrapped by `RamModel.from_clip`"):
        RamModel.from_pretrained(tmp_path / "clip")
    tiny_model.clip.text_model.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="is a 'clip_text_model' checkpoint"):
        RamModel.from_clip(tmp_path / "text")
    with pytest.raises(ValueError, match=r"holds 'epsilonn', which is no field of RamConfig\. Did you mean 'epsilon'"):
        RamModel.from_clip(tiny_model.clip, config={"epsilonn": 1})
    with pytest.raises(TypeError, match=r"\['dtype'\] can have no effect"):
        RamModel.from_clip(tiny_model.clip, dtype=torch.float16)


# --- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([[0.0]], "must be a tensor, got list. Make them with the model's processor"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "must be normalised floats, got torch.uint8"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.complex64), "must be normalised floats, got torch.complex64"),
    ],
)
def test_pixels_that_no_processor_makes_are_refused(pixels, message, tiny_model):
    with pytest.raises(TypeError, match=message):
        tiny_model(pixels, label_features=torch.randn(4, 48))


def test_bad_input_is_refused_with_what_was_expected(tiny_model, pixel_values, label_inputs):
    features = torch.randn(4, 48)
    not_finite = pixel_values.clone()
    not_finite[1, 0, 3, 3] = float("nan")
    ids = label_inputs["input_ids"]
    cases = [
        ({"pixel_values": pixel_values * 1e30, "label_features": features}, "must be normalised, got values up to"),
        ({"pixel_values": not_finite, "label_features": features}, "of image 1 hold NaN or infinite values"),
        (
            {"pixel_values": pixel_values[0], "label_features": features},
            r"`pixel_values` must have shape \(images, 3,",
        ),
        ({"pixel_values": pixel_values[:0], "label_features": features}, "with at least one image"),
        ({"pixel_values": pixel_values[..., :0], "label_features": features}, "`pixel_values` must have shape"),
        ({"pixel_values": pixel_values}, "either as `input_ids` or as `label_features`"),
        ({"pixel_values": pixel_values, "input_ids": ids, "label_features": features}, "not as both"),
        ({"pixel_values": pixel_values, "label_features": features[:, :47]}, r"shape \(labels, 48\).* got \(4, 47\)"),
        ({"pixel_values": pixel_values, "label_features": features[:0]}, "at least one label"),
        ({"pixel_values": pixel_values, "input_ids": ids[:0]}, "at least one label"),
        ({"pixel_values": pixel_values, "input_ids": torch.ones(1, 78).long()}, "78 tokens long .* takes 77"),
        ({"pixel_values": pixel_values, "input_ids": torch.ones(2, 5).long()}, "Label 0 .* no end-of-text token"),
        ({"pixel_values": pixel_values, "input_ids": ids + 600}, r"`input_ids` must lie in \[0, 514\), got 1\d\d\d"),
        ({"pixel_values": pixel_values, "label_features": features * math.nan}, "`label_features` hold NaN"),
        (
            {"pixel_values": pixel_values, "input_ids": ids, "attention_mask": torch.zeros_like(ids)},
            "padded on the left",
        ),
        ({"pixel_values": pixel_values, "input_ids": ids, "labels": TARGETS[:, :3]}, r"= \(3, 4\), got \(3, 3\)"),
        ({"pixel_values": pixel_values, "input_ids": ids, "labels": TARGETS * 2}, r"-1 \(unknown\), got 2"),
        ({"pixel_values": pixel_values, "input_ids": ids, "labels": TARGETS * math.nan}, "got nan"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            tiny_model(**arguments)
    tiny_model.train()
    with pytest.raises(ValueError, match="pass `input_ids` instead of `label_features`"):
        tiny_model(pixel_values, label_features=features, labels=TARGETS)


def test_duplicate_labels_score_equally(tiny_model, pixel_values, tiny_processor):
    output = scores_of(tiny_model, pixel_values, dict(tiny_processor(labels=["dog", "tree", "dog"])))
    torch.testing.assert_close(output.scores[:, 0], output.scores[:, 2])


def test_one_label_scores_one(tiny_model, pixel_values, tiny_processor):
    output = scores_of(tiny_model, pixel_values, dict(tiny_processor(labels="dog")))
    torch.testing.assert_close(output.scores, torch.ones(3, 1))


def test_default_configuration_is_vit_b_32():
    config = RamConfig()
    with torch.device("meta"):
        model = RamModel(config)
    assert model.clip.vision_model.embeddings.num_patches == 49
