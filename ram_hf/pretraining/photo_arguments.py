"""Everything that the training of a CLIP on photographs is told, as one dataclass for one YAML file."""

from dataclasses import dataclass, field

from .photo_student import LOSSES
from .small_clip import read_sizes


@dataclass(kw_only=True)
class PhotoClipArguments:
    """Options of [`train_photo_clip`].

    Raises:
        ValueError: when a stage or `sizes` has an unknown or a missing key, a loss an unknown name, the decay is
            too long, or saved images hold no patch.
    """

    photographs: str = field(metadata={"help": "folder of the decoded photographs"})
    teacher: str = field(metadata={"help": "folder of the teacher's features of them"})
    words: str = field(metadata={"help": "folder with labels.json, hypernyms.json and wnid2name.json"})
    output_dir: str = field(metadata={"help": "folder for checkpoints, log and the trained CLIP"})
    total_steps: int = field(metadata={"help": "length of the run; may grow when it goes on"})
    stages: list[dict[str, int]] = field(metadata={"help": "{image_size, from_step}: small images come first"})
    sizes: dict[str, int] = field(metadata={"help": "the fields of ClipSizes"})
    loss_weights: dict[str, float] = field(metadata={"help": "weight of each term of the loss"})
    decay_steps: int = field(default=0, metadata={"help": "steps at the end in which the rates fall to zero"})
    start_from: str | None = field(
        default=None,
        metadata={"help": "what to begin with: checkpoint of another run, or a CLIP or RAM with its tokenizer"},
    )
    saved_image_size: int | None = field(
        default=None,
        metadata={"help": "side of the images that the trained CLIP takes, pixels, if another than in `sizes`"},
    )
    whitening: float = field(
        default=0.5, metadata={"help": "0: the teacher's coordinates as they are; 1: all of one variance"}
    )
    held_back_every: int = field(default=16, metadata={"help": "one photograph in so many is kept apart to judge by"})
    batch_size: int = field(default=256, metadata={"help": "photographs of a step"})
    captioned_share: float = field(default=0.4, metadata={"help": "share of a batch that has captions"})
    names_at_once: int = field(default=512, metadata={"help": "names that a step tells apart"})
    teacher_share: float = field(default=0.5, metadata={"help": "the teacher's part in the names of a photograph"})
    least_area: float = field(default=0.4, metadata={"help": "smallest share of a photograph that a crop keeps"})
    name_length: int = field(default=12, metadata={"help": "tokens to which names are padded or cut"})
    caption_length: int = field(default=24, metadata={"help": "tokens to which captions are padded or cut"})
    vocab_size: int = field(default=4000, metadata={"help": "tokens of the byte-pair vocabulary"})
    logit_scale: float = field(default=20.0, metadata={"help": "factor on similarities at the start; it is learned"})
    matrix_learning_rate: float = field(default=5e-3, metadata={"help": "Muon's, for the matrices inside the layers"})
    learning_rate: float = field(default=1e-3, metadata={"help": "AdamW's, for everything else"})
    weight_decay: float = field(default=0.05, metadata={"help": "of the matrices inside the layers"})
    warmup_steps: int = field(default=100, metadata={"help": "linear warm-up"})
    mixed_precision: str = field(default="bf16", metadata={"help": "no or bf16"})
    compile: bool = field(default=True, metadata={"help": "compile the towers; needs a C++ compiler"})
    seed: int = field(default=0, metadata={"help": "seed of everything that is random"})
    eval_steps: int = field(default=500, metadata={"help": "judge every so many steps"})
    save_minutes: float = field(default=5.0, metadata={"help": "write a checkpoint every so many minutes"})
    log_steps: int = field(default=20, metadata={"help": "log every so many steps"})

    def __post_init__(self) -> None:
        patch_size = read_sizes(self.sizes).patch_size
        if self.saved_image_size is not None and self.saved_image_size < patch_size:
            raise ValueError(f"`saved_image_size` {self.saved_image_size} holds no patch of {patch_size} pixels.")
        for stage in self.stages:
            if stage.keys() != {"image_size", "from_step"}:
                raise ValueError(f"A stage must hold `image_size` and `from_step`, got {sorted(stage)}.")
        if not self.stages or self.stages[0]["from_step"] != 0:
            raise ValueError("The first of `stages` must have `from_step: 0`.")
        if set(self.loss_weights) != set(LOSSES):
            raise ValueError(f"`loss_weights` must name {sorted(LOSSES)}, got {sorted(self.loss_weights)}.")
        if self.warmup_steps + self.decay_steps > self.total_steps:
            raise ValueError(
                f"`warmup_steps` {self.warmup_steps} and `decay_steps` {self.decay_steps} do not fit into "
                f"`total_steps` {self.total_steps}."
            )

    def image_size(self, step: int) -> int:
        """Side of the images at a zero-based step, pixels."""
        return next(stage["image_size"] for stage in reversed(self.stages) if stage["from_step"] <= step)


__all__ = ["PhotoClipArguments"]
