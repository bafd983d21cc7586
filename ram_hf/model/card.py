"""The card of a model: made from the model and its run, around words that somebody wrote."""

import re
from collections.abc import Sequence
from typing import Any, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import is_jinja_available

from .card_text import RESULTS, TRAINING, base_model, generated_text, results_text
from .configuration_ram import RamConfig
from .eval_results import TASK_TYPE, merged_results
from .hub_names import hub_id
from .run_record import RunRecord

_BEGIN = "<!-- ram_hf: made from the run, and renewed by each push; write your own words outside of this part -->"
_END = "<!-- ram_hf: end of the part that is renewed -->"
_TAGS = ("recover-and-match", "multi-label", "open-vocabulary", "tagging", "clip", "optimal-transport")
_NO_LICENSE = "unknown"


def make_card(
    repo_id: str,
    *,
    config: RamConfig | None = None,
    run: RunRecord | None = None,
    own: ModelCard | None = None,
    license: ModelCardData | None = None,
    tags: Sequence[str] = (),
    has_pipeline: bool = False,
    adapters_only: bool = False,
) -> ModelCard:
    """Make a card, or renew the generated part of one.

    Args:
        repo_id: where the model goes to; the snippets load it from there.
        config: of the model; None where a processor goes alone.
        run: what is known of its training and evaluation.
        own: a card whose words and metadata stay, but for the generated part and what the run knows better.
        license: metadata of the base model's card, whose licence counts where `own` has none.
        tags: to add.
        has_pipeline: whether the pipeline's code goes along.
        adapters_only: whether the base model's weights are left out.

    Raises:
        ValueError: when the marks around the generated part of `own` are not one pair.
    """
    run = run or RunRecord()
    card = ModelCard("---\n{}\n---\n", ignore_metadata_errors=True) if own is None else own
    if _is_empty_template(card):
        card.text = ""
    data = metadata(card)
    results = merged_results(data.eval_results or [], run.results)
    _set_metadata(data, config, run, results, repo_id, adapters_only=adapters_only)
    data.tags = list(dict.fromkeys([*_as_list(data.tags), *tags, *_TAGS]))
    _set_license(data, license)
    text = generated_text(repo_id, config, run, results, has_pipeline=has_pipeline)
    card.text = _with_generated(card.text, text, title=repo_id.rpartition("/")[-1])
    return card


def with_results(card: ModelCard, results: Sequence[EvalResult], repo_id: str) -> ModelCard:
    """A card with results beside those that it has, in its metadata and, where it has a generated part, in its table.

    Raises:
        ValueError: when the marks around the generated part are not one pair.
    """
    data = metadata(card)
    merged = merged_results(data.eval_results or [], results)
    _set_results(data, merged, repo_id)
    if (generated := generated_part(card)) is not None and TRAINING in generated:
        ahead, behind = generated.split(TRAINING, 1)
        section = results_text(merged).strip()
        generated = f"{ahead.split(RESULTS, 1)[0]}{section}\n\n{TRAINING}{behind}"
        card.text = _with_generated(card.text, generated, title="")
    return card


def metadata(card: ModelCard) -> ModelCardData:
    """The metadata of a card, as what it is (its class says no more than that it is of some card)."""
    return cast(ModelCardData, card.data)


def read_card(text: str, name: str) -> ModelCard:
    """A card from its text.

    Raises:
        ValueError: when its metadata cannot be read.
    """
    try:
        return ModelCard(text if text.lstrip().startswith("---") else f"---\n{{}}\n---\n{text}")
    except Exception as error:  # a card can hold anything
        reason = " ".join(str(error).split())
        raise ValueError(f"The metadata of the card {name} cannot be read: {reason}. Mend it there first.") from error


def has_own_words(card: ModelCard | None) -> bool:
    """Whether somebody wrote more than a title, and not transformers' empty template."""
    if card is None:
        return False
    before, after = _around_generated(card.text)
    words = re.sub(r"\A\s*# .*\n?", "", before) + after
    return bool(words.strip()) and not _is_empty_template(card)


def generated_part(card: ModelCard) -> str | None:
    """What stands between the marks; None without any."""
    if _BEGIN not in card.text:
        return None
    return card.text.partition(_BEGIN)[2].partition(_END)[0].strip()


def _set_metadata(
    data: ModelCardData,
    config: RamConfig | None,
    run: RunRecord,
    results: list[EvalResult],
    repo_id: str,
    *,
    adapters_only: bool,
) -> None:
    data.library_name, data.pipeline_tag = "transformers", TASK_TYPE
    if base := hub_id(base_model(config, run)):
        data.base_model = base
        data["base_model_relation"] = "adapter" if adapters_only else "finetune"
    if run.datasets:
        data.datasets = run.datasets
    _set_results(data, results, repo_id)


def _set_results(data: ModelCardData, results: list[EvalResult], repo_id: str) -> None:
    if results:
        data.model_name = data.model_name or repo_id.rpartition("/")[-1]
        data.eval_results = results
        data.metrics = list(dict.fromkeys([*_as_list(data.metrics), *(result.metric_type for result in results)]))


def _set_license(data: ModelCardData, base: ModelCardData | None) -> None:
    if data.license:
        return
    data.license = (base.license if base is not None else None) or _NO_LICENSE
    if base is not None:
        data.license_name, data.license_link = base.license_name, base.license_link


def _with_generated(text: str, generated: str, *, title: str) -> str:
    before, after = _around_generated(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    if not before.strip() and not after.strip():
        before = f"# {title}\n"
    block = "\n".join(["", _BEGIN, "", generated, "", _END, ""]).replace("\n", newline)
    after = f"{newline}{after.lstrip()}" if after.strip() else ""
    return f"{newline}{before.strip()}{newline}{block}{after}"


def _around_generated(text: str) -> tuple[str, str]:
    """What stands before and behind the generated part; all of it before, where there is none yet."""
    counts = text.count(_BEGIN), text.count(_END)
    if counts == (0, 0):
        return text, ""
    if counts != (1, 1) or text.index(_BEGIN) > text.index(_END):
        raise ValueError(
            f"The card has {counts[0]} marks {_BEGIN!r} and {counts[1]} marks {_END!r}, where one pair in that order "
            "was expected: what is between them is renewed. Mend or remove them."
        )
    before, _, rest = text.partition(_BEGIN)
    return before, rest.partition(_END)[2]


def _is_empty_template(card: ModelCard) -> bool:
    if not is_jinja_available():
        return False
    description = (
        "This is the model card of a 🤗 transformers model that has been pushed on the Hub. This model card has been "
        "automatically generated."
    )
    empty = ModelCard.from_template(ModelCardData(), model_description=description)
    return card.text.split() == empty.text.split()


def _as_list(value: Any) -> list[str]:
    if not value:
        return []
    return [value] if isinstance(value, str) else list(value)


__all__ = ["generated_part", "has_own_words", "make_card", "metadata", "read_card", "with_results"]
