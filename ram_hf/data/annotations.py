"""Annotations as people have them on disk: one reader for each format, all with the same result."""

import ast
import functools
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Concatenate, Literal, NamedTuple, ParamSpec, TypedDict

from ..model.suggestions import did_you_mean
from ..text_files import read_text
from .label_set import one_to_the_model, plain_name
from .tables import csv_table, jsonl_rows

_Options = ParamSpec("_Options")
UNKNOWN_COLUMN = "unknown_labels"  # of prepared rows: labels that nobody has looked for in the image
_MARKS = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1, "-1": -1, "-1.0": -1}
_COLUMNS = ("path", "labels", UNKNOWN_COLUMN)  # of a table, in any capitals
_CSV_SUFFIXES = (".csv", ".tsv")
_SEPARATORS = ("|", ";", ",")
_NO_LABEL = {"", "nan", "NaN", "None", "null", "NULL", "<NA>", "set()"}  # what programs write for an empty cell
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_LIST = re.compile(rf"[\[({{]\s*(?:(?:{_QUOTED})(?:[\s,]+(?:{_QUOTED}))*\s*,?)?\s*[\])}}]")
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


class Box(TypedDict):
    """A labelled rectangle; corners in pixels of the stored image, x to the right and y down."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float


class AnnotatedImage(NamedTuple):
    """One image on disk and what is said about it."""

    name: str  # as the annotations name it, with forward slashes
    file: Path
    labels: list[str]
    boxes: list[Box] | None = None
    unknown: Sequence[str] = ()  # labels that nobody has looked for in it


@dataclass(frozen=True)
class Annotations:
    """What a reader found.

    Args:
        labels: all label names, in the order in which they will be listed.
        images: the images, in the order of the source; whether the files exist is not looked at.
        has_boxes: whether the images carry boxes.
        label_groups: named parts of `labels` that get label files of their own.
        notes: sentences on what was read otherwise than it stands there.

    Raises:
        TypeError: when a label is not a string.
        ValueError: when a label cannot stand on a line of a label file, comes twice, or an image has a label that is
            not among `labels`.
    """

    labels: list[str]
    images: list[AnnotatedImage]
    has_boxes: bool = False
    label_groups: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for label in self.labels:
            if not isinstance(label, str):
                raise TypeError(f"a label must be a string, got {label!r}")
            if not label or label != label.strip() or label.startswith("#") or not _is_one_line(label):
                raise ValueError(f"The label {label!r} cannot stand on a line of a label file.")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"The label {_first_repeated(self.labels)!r} is listed twice.")
        known = set(self.labels)
        for image in self.images:
            if unknown := [label for label in (*image.labels, *image.unknown) if label not in known]:
                raise ValueError(
                    f"The picture {image.name!r} has the label {unknown[0]!r}, which is not among the "
                    f"{len(known)} labels listed. {did_you_mean(unknown[0], self.labels)}"
                )

    def keep(self, renamed: dict[str, str]) -> "Annotations":
        """Keep some labels only, under new names; images stay, with the labels that remain.

        Args:
            renamed: new name by the name in the source, in the order in which the labels will be listed. A name that
                only differs in case, blanks, hyphens or the like from one in the source is taken as that one.

        Raises:
            ValueError: when a name is not among `labels`.
        """
        in_source = {label: self._spelt_in_source(label) for label in renamed}
        renamed = {in_source[label]: new for label, new in renamed.items()}
        if len(renamed) < len(in_source):
            raise ValueError(f"The label {_first_repeated(list(in_source.values()))!r} is to be kept twice.")
        other = [f"{label!r} as {there!r}" for label, there in in_source.items() if label != there]
        notes = (
            [f"{len(other)} labels to keep are spelt otherwise in the source: {', '.join(other)}."] if other else []
        )
        images = [
            image._replace(
                labels=_renamed(image.labels, renamed),
                boxes=image.boxes
                and [{**box, "label": renamed[box["label"]]} for box in image.boxes if box["label"] in renamed],
                unknown=_renamed(image.unknown, renamed),
            )
            for image in self.images
        ]
        groups = {name: _renamed(labels, renamed) for name, labels in self.label_groups.items()}
        labels = list(dict.fromkeys(renamed.values()))
        return Annotations(labels, images, self.has_boxes, groups, self.notes + notes)

    def _spelt_in_source(self, label: str) -> str:
        alike = [name for name in self.labels if plain_name(name) == plain_name(label)]
        if label in self.labels:
            return label
        if len(alike) != 1:
            hint = did_you_mean(label, self.labels)
            raise ValueError(f"The label {label!r} to keep is not in the source. {hint}")
        return alike[0]


def _naming_the_source(
    read: Callable[Concatenate[Path, Path, _Options], Annotations],
) -> Callable[Concatenate[Path, Path, _Options], Annotations]:
    """Turn what a file of another form makes Python raise into one error that names the file.

    What holds for every format is done here too: images are found under the folder, and repeated ones merged.
    """

    @functools.wraps(read)
    def reader(annotations: Path, images: Path, *args: _Options.args, **kwargs: _Options.kwargs) -> Annotations:
        try:
            found = read(annotations, images, *args, **kwargs)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"{annotations} does not have the form of its format ({reason}).") from error
        except ValueError as error:
            if annotations.name in str(error):
                raise
            raise ValueError(f"{annotations}: {error}") from error
        if not found.images:
            raise ValueError(f"{annotations} names no picture.")
        return _with_labels_compared(_with_images_merged(_with_images_found(found, images)))

    return reader


def _with_images_found(annotations: Annotations, folder: Path) -> Annotations:
    """Look for paths of another machine under `folder`, by their longest tail that is there.

    Relative ones only where not one of them is right as it stands: a single one is missing, and not to be guessed.
    """
    found: dict[str, AnnotatedImage] = {}  # by the name in the annotations
    relative = [image for image in annotations.images if not _is_elsewhere(image.name)]
    listed = functools.lru_cache(maxsize=None)(_names_by_small_letters)
    guess_relative = not any(image.file.exists() for image in relative)
    for image in annotations.images:
        may_guess = guess_relative or _is_elsewhere(image.name)
        if tail := (may_guess and _tail_under(folder, image)) or _in_other_capitals(image, listed):
            found[image.name] = image._replace(name=tail, file=folder / tail)
    if not found:
        return annotations
    names: dict[str, str] = {}
    for name, image in found.items():
        if (other := names.setdefault(image.name, name)) != name:
            raise ValueError(
                f"{other!r} and {name!r} are not there, and under {folder} there is one {image.name!r} for both. Give "
                "the folder that has them apart."
            )
    name, image = next(iter(found.items()))
    note = (
        f"{len(found)} paths were looked for under {folder} by their ends, such as {name!r}: {image.name!r} is there."
    )
    images = [
        image._replace(name=found[image.name].name, file=found[image.name].file) if image.name in found else image
        for image in annotations.images
    ]
    return replace(annotations, images=images, notes=[*annotations.notes, note])


def _tail_under(folder: Path, image: AnnotatedImage) -> str | None:
    if image.file.exists():
        return None
    parts = PureWindowsPath(image.name).parts[1:]  # takes both kinds of slashes
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((tail for tail in tails if (folder / tail).is_file()), None)


def _in_other_capitals(image: AnnotatedImage, listed: Callable[[Path], dict[str, list[str]]]) -> str | None:
    """The name of the one file that differs in capitals alone, where the names come from Windows or a Mac."""
    if _is_elsewhere(image.name) or image.file.exists() or "\0" in image.name:
        return None
    alike = listed(image.file.parent).get(image.file.name.casefold(), [])
    return (PurePosixPath(image.name).parent / alike[0]).as_posix() if len(alike) == 1 else None


def _names_by_small_letters(folder: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    if folder.is_dir():
        for file in folder.iterdir():
            names.setdefault(file.name.casefold(), []).append(file.name)
    return names


def _is_elsewhere(name: str) -> bool:
    """Whether a name says of itself that it is not below a folder: an absolute path or an address."""
    return "://" in name or PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()


def _with_images_merged(annotations: Annotations) -> Annotations:
    """Put the labels and boxes of all rows on an image into its first."""
    merged: dict[Path, AnnotatedImage] = {}
    for image in annotations.images:
        key = Path(os.path.normpath(image.file))
        first = merged.get(key)
        if first is None:
            merged[key] = image
        else:
            labels, boxes = list(dict.fromkeys(first.labels + image.labels)), (first.boxes or []) + (image.boxes or [])
            unknown = [name for name in dict.fromkeys((*first.unknown, *image.unknown)) if name not in labels]
            merged[key] = first._replace(
                labels=labels, boxes=boxes if annotations.has_boxes else None, unknown=unknown
            )
    if num_merged := len(annotations.images) - len(merged):
        note = f"{num_merged} rows name an image of an earlier row: their labels are put together."
        return replace(annotations, images=list(merged.values()), notes=[*annotations.notes, note])
    return annotations


def _with_labels_compared(annotations: Annotations) -> Annotations:
    """Tell of labels that are one to the model: it would be taught that one of them is there and the other is not."""
    notes = [
        f"The labels {first!r} and {second!r} are one to the model: a file for `--labels` puts them together, with "
        f"{first!r} on one line, and {second!r}, a tab and {first!r} on another."
        for first, second in one_to_the_model(annotations.labels)
    ]
    return replace(annotations, notes=[*annotations.notes, *notes]) if notes else annotations


@_naming_the_source
def read_coco(annotations: Path, images: Path) -> Annotations:
    """Read COCO's instances JSON.

    Args:
        annotations: file such as `instances_val2014.json`, with `images`, `annotations` and `categories`.
        images: folder of the images.

    Raises:
        ValueError: when the file has another form, or an annotation belongs to no image or category.
    """
    content = _read_json(annotations, ("images", "annotations", "categories"))
    names = {key: name.strip() for key, name in _coco_names(content["categories"], "categories", "name")}
    files = dict(_coco_names(content["images"], "images", "file_name"))
    labels: dict[str, list[str]] = {key: [] for key in files}
    boxes: dict[str, list[Box]] = {key: [] for key in files}
    num_boxless = 0
    for item in content["annotations"]:
        place = f"annotation {item.get('id')} of image {item.get('image_id')}"
        image, category = str(item.get("image_id")), str(item.get("category_id"))
        if image not in files or category not in names:
            raise ValueError(f"{place} and category {category}: there is no such image or no such category.")
        labels[image].append(names[category])
        if item.get("bbox"):
            boxes[image].append(_coco_box(names[category], item["bbox"], place))
        else:
            num_boxless += 1
    order = sorted(names, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0, key))
    return Annotations(
        list(dict.fromkeys(names[key] for key in order)),
        [_image(images, file, labels[key], boxes[key]) for key, file in files.items()],
        has_boxes=True,
        notes=[f"{num_boxless} annotations have no box: their labels are kept."] if num_boxless else [],
    )


def _coco_names(items: Sequence[Any], what: str, field: str) -> Iterable[tuple[str, str]]:
    """Id, which some programs write as a number and some as a string, and name of each image or category."""
    seen: dict[str, str] = {}
    for number, item in enumerate(items):
        if not (isinstance(item, dict) and item.get("id") is not None and isinstance(item.get(field), str)):
            raise ValueError(f"entry {number} of `{what}` must have an `id` and a `{field}`, got {item!r}.")
        key, name = str(item["id"]), item[field]
        if key in seen:
            raise ValueError(f"`{what}` has the id {key} twice, for {seen[key]!r} and for {name!r}.")
        seen[key] = name
        yield key, name


def _coco_box(label: str, corners: Any, place: str) -> Box:
    if not (
        isinstance(corners, list)
        and len(corners) == 4
        and all(type(each) in (int, float) and math.isfinite(each) for each in corners)
        and min(corners[2:]) >= 0
    ):
        raise ValueError(f"{place}: `bbox` must be [x, y, width, height], got {corners!r}.")
    x, y, width, height = corners
    return Box(label=label, x0=x, y0=y, x1=x + width, y1=y + height)


@_naming_the_source
def read_ram_json(annotations: Path, images: Path) -> Annotations:
    """Read `{"images": [[path, [label, ...]], ...], "classes": [...]}`, as the method's own annotation files are.

    Args:
        annotations: the JSON file.
        images: folder that the paths in it are relative to.

    Raises:
        ValueError: when the file has another form, or a label is not among its classes.
    """
    content = _read_json(annotations, ("images", "classes"))
    rows = []
    for row in content["images"]:
        match row:
            case [str(path), [*labels]] if _is_strings(labels):
                rows.append(_image(images, path, (label.strip() for label in labels)))
            case _:
                raise ValueError(f"{annotations}: an entry of `images` must be [path, [label, ...]], got {row!r}.")
    return Annotations([label.strip() if isinstance(label, str) else label for label in content["classes"]], rows)


@_naming_the_source
def read_rap(
    annotations: Path, images: Path, *, split: Literal["train", "test", "all"], partition: int = 0
) -> Annotations:
    """Read RAPv1's `RAP_annotation.mat`.

    Args:
        annotations: the `.mat` file.
        images: folder of the images (`RAP_dataset`).
        split: part of the chosen partition.
        partition: which of the file's random partitions into train and test, from 0.

    Raises:
        ValueError: when the file has another form or holds no such partition.
    """
    content = _read_mat(annotations)
    if not isinstance(content.get("RAP_annotation"), dict):
        raise ValueError(f"{annotations} holds no struct `RAP_annotation`; it has {_names(content)}.")
    content = content["RAP_annotation"]
    names = _strings(_either(content, ("imagesname", "name"), annotations))
    labels = _strings(_either(content, ("attribute_eng",), annotations))
    marks = _marks(_either(content, ("label",), annotations), names, labels, annotations)
    rows: Sequence[int] = range(len(names))
    if split != "all":
        partitions = _cells(_either(content, ("partition", "partion"), annotations))  # the file's own spelling
        if not 0 <= partition < len(partitions):
            raise ValueError(f"{annotations} holds {len(partitions)} partitions, counted from 0; got {partition}.")
        rows = [int(row) - 1 for row in _cells(_either(partitions[partition], (f"{split}_index",), annotations))]
        if not all(0 <= row < len(names) for row in rows):
            raise ValueError(f"{annotations}: the {split} part names a picture beyond the {len(names)} in the file.")
    return Annotations(labels, [_image(images, names[row], _marked(labels, marks[row])) for row in rows])


@_naming_the_source
def read_pa100k(annotations: Path, images: Path, *, split: Literal["train", "val", "test"]) -> Annotations:
    """Read PA100K's `annotation.mat`.

    Args:
        annotations: the `.mat` file.
        images: folder of the images.
        split: part of the dataset.

    Raises:
        ValueError: when the file has another form.
    """
    content = _read_mat(annotations)
    labels = _strings(_either(content, ("attributes",), annotations))
    names = _strings(_either(content, (f"{split}_images_name",), annotations))
    marks = _marks(_either(content, (f"{split}_label",), annotations), names, labels, annotations)
    return Annotations(
        labels, [_image(images, name, _marked(labels, row)) for name, row in zip(names, marks, strict=True)]
    )


@_naming_the_source
def read_nus_wide(
    annotations: Path,
    images: Path,
    *,
    split: Literal["train", "test", "all"],
    concepts: Path | None = None,
    tags: Path | None = None,
    tag_list: Path | None = None,
) -> Annotations:
    r"""Read NUS-WIDE's text files, which all follow the order of the image list.

    A tag named as a concept is left out: people checked the concepts, and nobody the tags. What is left of the tags
    and the concepts are the label groups `tags` and `concepts` (925 and 81 in the full dataset).

    Args:
        annotations: image list, one path a line, with `\` or `/`.
        images: folder that the paths are relative to.
        split: which of the concepts' files are meant: `Labels_<name>_Train.txt`, `Labels_<name>_Test.txt`, or those
            without an ending (`AllLabels`).
        concepts: folder of these files, each with a 0 or 1 a line.
        tags: table of 0 and 1, one line for each image and one column for each tag (`AllTags1k.txt`).
        tag_list: names of its columns, one a line (`TagList1k.txt`).

    Raises:
        ValueError: when neither concepts nor tags are given, a file is not as long as the image list, or holds
            something other than 0 and 1.
    """
    if (tags is None) != (tag_list is None) or (tags is None and concepts is None):
        raise ValueError(
            "NUS-WIDE needs a folder of concepts, or a table of tags with the list of their names, or all."
        )
    names = [line.replace("\\", "/") for line in _lines(annotations)]
    labels: list[list[str]] = [[] for _ in names]
    unknown: list[list[str]] = [[] for _ in names]
    groups: dict[str, list[str]] = {"tags": [], "concepts": []}
    for concept, file in _concept_files(concepts, split) if concepts else ():
        groups["concepts"].append(concept)
        for row, (mark,) in enumerate(_mark_lines(file, len(names), 1)):
            (labels if mark == 1 else unknown)[row].extend([concept] if mark else [])
    if tags and tag_list:
        tag_names = _lines(tag_list)
        skipped = set(groups["concepts"])
        groups["tags"] = [tag for tag in tag_names if tag not in skipped]
        for row, marks in enumerate(_mark_lines(tags, len(names), len(tag_names))):
            for tag, mark in zip(tag_names, marks, strict=True):
                if mark and tag not in skipped:
                    (labels if mark == 1 else unknown)[row].append(tag)
    return Annotations(
        groups["tags"] + groups["concepts"],
        [
            _image(images, name, held, None, not_looked_for)
            for name, held, not_looked_for in zip(names, labels, unknown, strict=True)
        ],
        label_groups={name: group for name, group in groups.items() if group},
    )


@_naming_the_source
def read_voc(annotations: Path, images: Path, *, split: Literal["train", "val", "trainval", "test"]) -> Annotations:
    """Read PASCAL VOC's lists of images, a file `<label>_<split>.txt` for each label.

    Each line has a name and 1 where the label is in the image, -1 where not, 0 where all there is of it is hard to
    make out: VOC's own measure passes over these, so they are unknown here.

    Args:
        annotations: folder of these files, `ImageSets/Main`.
        images: folder of the images, `JPEGImages`.
        split: part of the dataset.

    Raises:
        ValueError: when there are no such files, they list other images, or a line has another form.
    """
    files = {file.stem.removesuffix(f"_{split}"): file for file in sorted(annotations.glob(f"*_{split}.txt"))}
    if not files:
        raise ValueError(f"There is no file <label>_{split}.txt in the folder {str(annotations)!r}.")
    marks = {label: dict(_voc_lines(file)) for label, file in files.items()}
    first_label, names = next((label, of_label.keys()) for label, of_label in marks.items())
    if others := [label for label, of_label in marks.items() if of_label.keys() != names]:
        raise ValueError(f"{files[others[0]].name} lists other images than {files[first_label].name}.")
    return Annotations(
        list(files),
        [
            _image(
                images,
                _with_suffix(images, name),
                [label for label, of_label in marks.items() if of_label[name] == "1"],
                None,
                [label for label, of_label in marks.items() if of_label[name] == "0"],
            )
            for name in names
        ],
    )


@_naming_the_source
def read_multiscene(annotations: Path, images: Path) -> Annotations:
    """Read MultiScene's CSV, or any other with an image in the first column and 1, 0 or -1 (unknown) for each label.

    Args:
        annotations: the CSV file; an image's name may lack its ending.
        images: folder of the images.

    Raises:
        ValueError: when a cell is neither 0 nor 1.
    """
    return Annotations(*_read_marks_csv(annotations, images))


@_naming_the_source
def read_mlrsnet(annotations: Path, images: Path) -> Annotations:
    """Read MLRSNet: one CSV for each category, as for MultiScene, with its images in a folder of the same name.

    Args:
        annotations: folder of the CSV files.
        images: folder of the categories' folders.

    Raises:
        ValueError: when there is no CSV, the files differ in their labels, or a cell is neither 0 nor 1.
    """
    files = sorted(annotations.glob("*.csv"))
    if not files:
        raise ValueError(f"There is no CSV file in the folder {str(annotations)!r}.")
    labels: list[str] = []
    found: list[AnnotatedImage] = []
    for file in files:
        own_labels, rows = _read_marks_csv(file, images / file.stem)
        labels = labels or own_labels
        if set(own_labels) != set(labels):
            odd = sorted(set(own_labels) ^ set(labels))
            raise ValueError(f"{file.name} and {files[0].name} must have the same labels; they differ in {odd}.")
        found.extend(row._replace(name=f"{file.stem}/{row.name}") for row in rows)
    return Annotations(labels, found)


@_naming_the_source
def read_table(annotations: Path, images: Path, *, separator: str = "|") -> Annotations:
    """Read a CSV or JSONL file with `path` and `labels`; its labels are all that occur, in alphabetical order.

    The cells of a CSV may be separated by commas, semicolons or tabs (see [`csv_table`]).

    A third column `unknown_labels` may hold, in the same form, labels that nobody has looked for in the image.

    Args:
        annotations: `.csv` or `.tsv` with a header, or `.jsonl` with one object a line, whose `labels` is a list. A
            cell may also hold a list as Python, NumPy and pandas write it; `nan`, `None` and the like are no label.
        images: folder that the paths are relative to.
        separator: what stands between the labels of a CSV cell.

    Raises:
        ValueError: when the file is neither, a row has no path or no labels of the right form, or more cells than the
            header.
    """
    if annotations.suffix.lower() not in (*_CSV_SUFFIXES, ".jsonl"):
        raise ValueError(f"A table of pictures must end in .csv, .tsv or .jsonl, got {annotations.name!r}.")
    is_csv = annotations.suffix.lower() in _CSV_SUFFIXES
    rows, num_nulls = [], 0
    no_label: Counter[str] = Counter()
    for number, row in _csv_rows(annotations, separator) if is_csv else jsonl_rows(annotations):
        path, labels, place = row.get("path"), row.get("labels"), f"{annotations}, row {number}"
        if "labels" in row and (text := str(labels).strip()) in _NO_LABEL:
            no_label.update([text] if text else [])
            labels = []
        elif is_csv and isinstance(labels, str):
            labels = _cell_labels(labels, separator, place)
        elif isinstance(labels, list):
            num_nulls += labels.count(None)
            labels = [label.strip() if isinstance(label, str) else label for label in labels if label is not None]
        if not (isinstance(path, str) and path and isinstance(labels, list) and _is_strings(labels)):
            expected = (
                f"labels separated by {separator!r}; a column of 0 and 1 for each label is the format `multiscene`"
                if is_csv
                else "a list of strings"
            )
            raise ValueError(
                f"{place}: expected a `path` and `labels` ({expected}), got the columns "
                f"{_names(row)} with {path!r} and {labels!r}."
            )
        rows.append(_image(images, path, labels, None, _unknown_of(row, separator if is_csv else None, place)))
    names = sorted({label for row in rows for label in (*row.labels, *row.unknown)})
    notes = [f"{num_nulls} labels are null: they are left out."] if num_nulls else []
    notes += [f"{count} rows say {text!r} for their labels: they have none." for text, count in no_label.items()]
    return Annotations(names, rows, notes=notes + (_other_separators(names, separator) if is_csv else []))


def _csv_rows(file: Path, separator: str) -> Iterable[tuple[int, dict[str, Any]]]:
    header, rows = csv_table(file)
    columns = [name.lower() if name.lower() in _COLUMNS else name for name in header]
    if repeated := [name for name in _COLUMNS if columns.count(name) > 1]:
        raise ValueError(f"{file}: the header names {repeated[0]!r} {columns.count(repeated[0])} times, {header}.")
    for number, cells in rows:
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise ValueError(
                f"{file}, row {number}: the header names {len(columns)} columns, but there are {len(cells)} cells, "
                f"{cells}. All labels of an image stand in one cell, with {separator!r} between them."
            )
        blanks = [""] * (len(columns) - len(cells))
        yield number, dict(zip(columns, [*cells, *blanks], strict=False))


def _unknown_of(row: dict[str, Any], separator: str | None, place: str) -> list[str]:
    value = row.get(UNKNOWN_COLUMN)
    if value is None or str(value).strip() in _NO_LABEL:
        return []
    if separator is not None and isinstance(value, str):
        return _cell_labels(value, separator, place)
    if not (isinstance(value, list) and _is_strings(value)):
        raise ValueError(f"{place}: `{UNKNOWN_COLUMN}` must be a list of strings, got {value!r}.")
    return value


def _cell_labels(cell: str, separator: str, place: str) -> list[str]:
    cell = cell.strip()
    if _LIST.fullmatch(cell):
        labels = [str(ast.literal_eval(quoted)) for quoted in re.findall(_QUOTED, cell)]
    elif cell.startswith("[") and cell.endswith("]"):
        raise ValueError(f"{place}: the list {cell!r} must have quotes around each of its labels.")
    else:
        labels = cell.split(separator)
    return [stripped for label in labels if (stripped := label.strip())]


def _other_separators(labels: Sequence[str], separator: str) -> list[str]:
    notes = []
    for other in _SEPARATORS:
        if other != separator and (held := [label for label in labels if other in label]):
            notes.append(
                f"{len(held)} labels hold {other!r}, such as {held[0]!r}: if it stands between labels, pass "
                f"`--separator {other!r}`."
            )
    return notes


def read_label_names(file: Path) -> dict[str, str]:
    """Read the labels to keep: one a line, or `name in the source<TAB>new name`; lines with `#` are comments.

    Returns:
        New name by the name in the source.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when a line has more than one tab, or the file no line.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no label file {str(file)!r}.")
    renamed = {}
    for line in _lines(file):
        if line.startswith("#"):
            continue
        old, _, new = line.partition("\t")
        if "\t" in new:
            raise ValueError(f"{file}: expected one name, or two with a tab between them, got {line!r}.")
        renamed[old.strip()] = new.strip() or old.strip()
    if not renamed:
        raise ValueError(f"The label file {str(file)!r} holds no label.")
    return renamed


def _image(
    folder: Path, name: str, labels: Iterable[str], boxes: list[Box] | None = None, unknown: Iterable[str] = ()
) -> AnnotatedImage:
    if not name.strip():
        raise ValueError("an image has an empty name.")
    if "\\" in name and not PureWindowsPath(name).is_absolute() and not (folder / name).exists():
        name = name.replace("\\", "/")  # written on Windows
    names = list(dict.fromkeys(labels))
    return AnnotatedImage(
        name, folder / name, names, boxes, [label for label in dict.fromkeys(unknown) if label not in names]
    )


def _renamed(labels: Iterable[str], renamed: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(renamed[label] for label in labels if label in renamed))


def _first_repeated(names: Sequence[str]) -> str:
    return next(name for index, name in enumerate(names) if name in names[:index])


def _names(content: Iterable[str]) -> list[str]:
    return [name for name in content if not str(name).startswith("__")]


def _is_one_line(label: str) -> bool:
    """Whether a label holds nothing that ends a line, no other control character and no half of a character."""
    return not any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in label)


def _is_strings(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _lines(file: Path) -> list[str]:
    return [stripped for line in read_text(file).splitlines() if (stripped := line.strip())]


def _read_json(file: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = json.loads(read_text(file))
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold an object with the lists {list(keys)}, got a {type(content).__name__}.")
    if wrong := [key for key in keys if not isinstance(content.get(key), list)]:
        kind = type(content[wrong[0]]).__name__ if wrong[0] in content else "none"
        raise ValueError(
            f"{file} must hold an object with the lists {list(keys)}; of {wrong[0]!r} there is {kind}, among "
            f"{_names(content)}."
        )
    return content


def _read_marks_csv(file: Path, folder: Path) -> tuple[list[str], list[AnnotatedImage]]:
    header, rows = csv_table(file)
    if header[-1:] == [""]:
        raise ValueError(f"{file}: column {len(header)} of the header has no name.")
    labels = header[1:]
    if not labels:
        raise ValueError(f"{file} must have a header with a column for the picture and one for each label.")
    images = []
    for number, (name, *cells) in rows:
        if len(cells) != len(labels):
            raise ValueError(f"{file}, row {number}: expected {len(labels)} labels of 0 or 1, got {len(cells)} cells.")
        marks = _read_marks(cells, f"{file}, row {number}", labels)
        unknown = [label for label, mark in zip(labels, marks, strict=True) if mark == -1]
        images.append(_image(folder, _with_suffix(folder, name.strip()), _marked(labels, marks), None, unknown))
    return labels, images


def _with_suffix(folder: Path, name: str) -> str:
    if Path(name).suffix.lower() in _IMAGE_SUFFIXES:
        return name
    suffixes = (*_IMAGE_SUFFIXES, *(suffix.upper() for suffix in _IMAGE_SUFFIXES))
    return next((name + suffix for suffix in suffixes if (folder / (name + suffix)).is_file()), name)


def _read_marks(cells: Sequence[str], place: str, labels: Sequence[str] = ()) -> list[int]:
    try:
        return [_MARKS[cell.strip().lower()] for cell in cells]
    except KeyError as error:
        column = [cell.strip().lower() for cell in cells].index(error.args[0])
        of = f" of {labels[column]!r}" if labels else ""
        raise ValueError(
            f"{place}: the mark{of} must be 0 or 1, or -1 for unknown, got {cells[column].strip()!r}."
        ) from None


def _mark_lines(file: Path, num_lines: int, num_columns: int) -> Iterable[list[int]]:
    count = 0
    with file.open(encoding="utf-8") as lines:
        for cells in (line.split() for line in lines):
            if not cells:
                continue
            count += 1
            if count > num_lines or len(cells) != num_columns:
                break
            yield _read_marks(cells, f"{file}, row {count}")
        else:
            if count == num_lines:
                return
            raise ValueError(f"{file} has {count} rows, but the image list has {num_lines}.")
    if count > num_lines:
        raise ValueError(f"{file} has more rows than the image list, which has {num_lines}.")
    raise ValueError(f"{file}, row {count}: expected {num_columns} columns of 0 or 1, got {len(cells)}.")


def _voc_lines(file: Path) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(_lines(file), start=1):
        match line.split():
            case [name, ("1" | "0" | "-1") as mark]:
                yield name, mark
            case _:
                raise ValueError(f"{file}, row {number}: expected a name and 1, 0 or -1, got {line!r}.")


def _concept_files(folder: Path, split: str) -> list[tuple[str, Path]]:
    ending = "" if split == "all" else f"_{split.capitalize()}"
    found = []
    for file in sorted(folder.glob(f"Labels_*{ending}.txt")):
        name = re.fullmatch(rf"Labels_(.+){ending}", file.stem)
        if name and not (split == "all" and name[1].endswith(("_Train", "_Test"))):
            found.append((name[1], file))
    if not found:
        raise ValueError(f"There is no file Labels_<name>{ending}.txt in the folder {str(folder)!r}.")
    return found


def _read_mat(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}.")
    try:
        return loadmat(file, simplify_cells=True)
    except NotImplementedError as error:  # an HDF5 file
        raise ValueError(f"{file} is a MATLAB 7.3 file; save it again with `save(..., '-v7')`.") from error
    except Exception as error:  # scipy has errors of its own for each kind of damage
        raise ValueError(f"{file} cannot be read as a MATLAB file ({error}).") from error


def _either(content: dict[str, Any], names: Sequence[str], file: Path) -> Any:
    for name in names:
        if name in content:
            return content[name]
    raise ValueError(f"{file} holds no field {' or '.join(names)!r}; it has {_names(content)}.")


def _cells(value: Any) -> list[Any]:
    """Cells of a MATLAB array as a list, also where there is one alone, which scipy does not put into an array."""
    import numpy as np

    return list(np.atleast_1d(np.asarray(value, dtype=object)).ravel())


def _strings(value: Any) -> list[str]:
    return [str(cell).strip() for cell in _cells(value)]


def _marks(value: Any, names: list[str], labels: list[str], file: Path) -> Any:
    """Matrix of truth values, images by labels; of RAP's values only 1 says that a label is there."""
    import numpy as np

    marks = np.asarray(value)
    if marks.size != len(names) * len(labels):
        raise ValueError(
            f"{file}: {len(names)} pictures and {len(labels)} labels need a matrix of that shape, got {marks.shape}."
        )
    return marks.reshape(len(names), len(labels)) == 1


def _marked(labels: Sequence[str], marks: Iterable[Any]) -> list[str]:
    return [label for label, mark in zip(labels, marks, strict=True) if mark == 1]


__all__ = [
    "UNKNOWN_COLUMN",
    "AnnotatedImage",
    "Annotations",
    "Box",
    "read_coco",
    "read_label_names",
    "read_mlrsnet",
    "read_multiscene",
    "read_nus_wide",
    "read_pa100k",
    "read_ram_json",
    "read_rap",
    "read_table",
]
