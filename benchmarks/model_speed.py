"""Time of RAM's forward pass and training step over that of CLIP's vision tower: same pixels, same run.

Run from the repository's root: `python benchmarks/model_speed.py`. Random weights in the shape of ViT-B/16, or those
of `--model`; the runs alternate, so that a machine whose speed drifts slows all of them alike; the ratio is that of
the medians. Beside other programs, `--processor-time` counts that of this one alone.
"""

import argparse
import functools
import resource
import statistics
import time
from collections.abc import Callable

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from ram_hf import RamModel
from ram_hf.model.refine import look_again
from ram_hf.pretrained import load_model

VIT_B_16 = {
    "projection_dim": 512,
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 16},
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
}


def label_ids(text: CLIPTextConfig, num_labels: int, num_words: int) -> torch.Tensor:
    """Token ids of labels with this many tokens between the begin and the end of the text."""
    words = torch.randint(1, text.bos_token_id, (num_labels, num_words))
    begin, end = torch.full((num_labels, 1), text.bos_token_id), torch.full((num_labels, 1), text.eos_token_id)
    return torch.cat([begin, words, end], dim=1)


def peak_memory(device: torch.device) -> float:
    """GiB: of the process since its start on a CPU, of the allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def alternate(
    functions: dict[str, Callable[[], object]],
    repeats: int,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds of each run of each function, in turn; and the peak memory up to the first run.

    Each timed run follows another of the same function: a training step has the label list of the step before. The
    functions come in the order of their memory, so that a peak is that of the function it stands beside.
    """
    synchronize = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    memory: dict[str, float] = {}
    for _ in range(repeats):
        for name, function in functions.items():
            function()
            synchronize()
            memory.setdefault(name, peak_memory(device))
            start = clock()
            function()
            synchronize()
            seconds[name].append(clock() - start)
    return seconds, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a CLIP, or a RAM whose CLIP is taken, instead of random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the weights; a training step on a GPU autocasts to it")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--labels", type=int, default=65, help="of the forward pass")
    parser.add_argument("--train-labels", type=int, nargs="*", default=[48, 925])
    parser.add_argument("--refine", type=int, nargs="*", default=[1, 3], help="labels judged again, without training")
    parser.add_argument("--words", type=int, default=4, help="tokens of a label")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--processor-time", action="store_true", help="of all threads together, not by the wall clock")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)

    clip = CLIPModel(CLIPConfig(**VIT_B_16)) if arguments.model is None else load_model(arguments.model)[0].clip
    text, side = clip.config.text_config, clip.config.vision_config.image_size
    model = RamModel.from_clip(clip.to(device), for_training=True)
    training_free = RamModel.from_clip(clip)
    pixels = torch.randn(arguments.batch_size, 3, side, side, device=device)
    features = model.get_label_features(label_ids(text, arguments.labels, arguments.words).to(device)).detach()

    @torch.no_grad()
    def vision():
        model.eval()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            model.clip.vision_model(pixels)

    @torch.no_grad()
    def forward():
        model.eval()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            model(pixels, label_features=features)

    @torch.no_grad()
    def untrained(num_refined: int = 0) -> int:
        """How many crops were looked at."""
        num_crops = 0

        def score_crops(crops: torch.Tensor) -> torch.Tensor:
            nonlocal num_crops
            num_crops += len(crops)
            return training_free(crops, label_features=features).scores

        training_free.eval()
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            found = training_free(pixels, label_features=features, output_transport_plan=num_refined > 0)
            if num_refined:
                grid = training_free.config.patch_grid()
                options = {"grid": grid, "num_labels": num_refined, "score_crops": score_crops}
                look_again(pixels, found.scores, found.transport_plan, **options)
        return num_crops

    def training_step(num_labels: int) -> Callable[[], None]:
        input_ids = label_ids(text, num_labels, arguments.words).to(device)
        labels = (torch.rand(arguments.batch_size, num_labels, device=device) < 3 / num_labels).long()
        labels[:, 0] = 1
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)

        def step():
            model.train()
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = model(pixels, input_ids=input_ids, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    functions: dict[str, Callable[[], object]] = {"CLIP vision tower": vision}
    functions[f"training-free, {arguments.labels} labels cached"] = untrained
    for number in arguments.refine:
        crops = untrained(number) / arguments.batch_size
        functions[f"the same, --refine {number}: {crops:.2f} crops"] = functools.partial(untrained, number)
    functions[f"forward, {arguments.labels} labels cached"] = forward
    for num_labels in arguments.train_labels:
        functions[f"training step, {num_labels} labels"] = training_step(num_labels)
    threads = torch.get_num_threads()
    print(f"{device}, {dtype}, batch {arguments.batch_size}, {threads} threads, torch {torch.__version__}")
    clock = time.process_time if arguments.processor_time else time.perf_counter
    seconds, memory = alternate(functions, arguments.repeats, device, clock)
    base = statistics.median(seconds["CLIP vision tower"])
    print(f"{'':34} {'median':>9} {'min':>9} {'max':>9} {'ratio':>6} {'peak memory':>12}")
    for name, values in seconds.items():
        median = statistics.median(values)
        times = f"{median:8.3f}s {min(values):8.3f}s {max(values):8.3f}s"
        print(f"{name:34} {times} {median / base:6.2f} {memory[name]:8.2f} GiB")


if __name__ == "__main__":
    main()
