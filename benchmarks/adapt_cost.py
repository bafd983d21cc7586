"""What `ram-hf adapt` costs beside `ram-hf tag` of the same pictures: processor seconds of the two commands.

Run from the repository's root: `python benchmarks/adapt_cost.py MODEL FOLDER LABELS`, with a CLIP or a RAM, a folder
of pictures and a file of labels. The two take turns as processes of their own, and the smallest of their times counts:
start-up, decoding and writing are in it. Processor time is what a busy machine changes least.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def processor_seconds(words: list[str]) -> float:
    """What a command takes, with the processes that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "ram_hf", *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", help="of the pictures")
    parser.add_argument("labels", help="file of label names")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    seconds: dict[str, list[float]] = {"tag": [], "adapt": []}
    for number in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            outputs = {"tag": str(Path(folder) / "tags.jsonl"), "adapt": str(Path(folder) / "model")}
            words = {
                "tag": ["tag", options.folder, "--model", options.model],
                "adapt": ["adapt", options.model, options.folder],
            }
            for name, command in words.items():
                command += ["--labels-file", options.labels, "--output", outputs[name], "--workers", "0"]
                seconds[name].append(processor_seconds(command))
        print(f"{number + 1}: tag {seconds['tag'][-1]:.1f} s, adapt {seconds['adapt'][-1]:.1f} s", flush=True)
    least = {name: min(each) for name, each in seconds.items()}
    print(f"adapt {least['adapt']:.1f} s, tag {least['tag']:.1f} s: {least['adapt'] / least['tag']:.2f} times")


if __name__ == "__main__":
    main()
