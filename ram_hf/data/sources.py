"""Open a dataset, and read images, labels and boxes out of its rows, however its labels are laid out."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import datasets

from ..hub_errors import LOG_IN, explain, plain_error
from ..matching_paths import matching_paths
from ..model.hub_names import intended_id, split_revision
from ..model.suggestions import did_you_mean
from .annotations import UNKNOWN_COLUMN, Box
from .label_census import Tally, prepared_tally

_Row = TypeVar("_Row")
AnyDataset: TypeAlias = datasets.Dataset | datasets.IterableDataset

# Builder by file name ending; a folder needs none, `datasets` looks into it.
_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset", ".json": "json", ".jsonl": "json"}
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_TRUTH_TYPES = re.compile(r"(bool|u?int\d+|float\d+)")  # types that can hold 0 and 1
_STRING_TYPES = {"string", "large_string", "null"}  # "null": every list seen so far was empty
_BINARY_TYPES = {"binary", "large_binary"}


class Row(NamedTuple):
    """What one row holds: the image not yet decoded, its distinct labels in their order, and boxes if asked for."""

    image: bytes | str  # encoded bytes, or a path or URL
    labels: list[str]
    boxes: list[Box] | None = None
    path: str | None = None  # where the image came from, for messages
    unknown: tuple[str, ...] = ()  # labels that nobody has looked for in the image


@dataclass(frozen=True)
class DatasetSpec:
    """Where the rows of a dataset are, and what their columns mean.

    Attributes:
        path: see [`open_dataset`], as are `split`, `name`, `revision`, `data_files` and `streaming`; also
            "owner/name@revision".
        split: name of the split.
        name: configuration of the dataset on the Hub.
        revision: branch, tag or commit on the Hub.
        data_files: file names or globs inside the dataset.
        streaming: read rows as they are asked for.
        image_column: see [`RowReader`], as are the columns that follow.
        label_column: column with the labels.
        label_columns: columns of 1, 0 and -1, in place of `label_column`.
        label_separator: what stands between the labels where `label_column` holds them in one string.
        boxes_column: column with boxes of labels.
    """

    path: str | os.PathLike
    split: str
    name: str | None = None
    revision: str | None = None
    data_files: str | Sequence[str] | Mapping[str, Any] | None = None
    streaming: bool = True
    image_column: str = "image"
    label_column: str | None = None
    label_columns: Sequence[str] | None = None
    label_separator: str | None = None
    boxes_column: str | None = None

    def __post_init__(self) -> None:
        path, revision = split_revision(self.path, self.revision)
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "revision", revision)

    def open(self) -> tuple[AnyDataset, "RowReader"]:
        """Open the rows, with the columns that are read alone and their images encoded, and their reader.

        Raises:
            FileNotFoundError, ConnectionError: see [`open_dataset`].
            ValueError: when there is no such split or configuration, or a column does not fit.
        """
        dataset = open_dataset(
            self.path,
            split=self.split,
            name=self.name,
            revision=self.revision,
            data_files=self.data_files,
            streaming=self.streaming,
        )
        reader = RowReader.from_dataset(
            dataset,
            image_column=self.image_column,
            label_column=self.label_column,
            label_columns=self.label_columns,
            label_separator=self.label_separator,
            boxes_column=self.boxes_column,
        )
        return reader.select(dataset), reader

    def counted_before(self, label_names: Iterable[str]) -> Tally | None:
        """How often labels come, where `ram-hf prepare` counted those that these rows are read with; else None."""
        if self.data_files is not None or self.label_column != "labels":
            return None
        return prepared_tally(self.path, self.split, label_names)


def open_dataset(
    dataset: str | os.PathLike,
    *,
    split: str,
    name: str | None = None,
    revision: str | None = None,
    data_files: str | Sequence[str] | Mapping[str, Any] | None = None,
    streaming: bool = True,
) -> AnyDataset:
    """Open one split of a dataset.

    Args:
        dataset: id on the Hub; folder with parquet, arrow or WebDataset (`.tar`) shards, or with images and a
            metadata file (`imagefolder`); folder written by `save_to_disk`; or a data file or a glob of them, which
            are taken as the split that is asked for.
        split: name of the split.
        name: configuration of the dataset on the Hub.
        revision: branch, tag or commit on the Hub.
        data_files: file names or globs inside the dataset, in place of what `datasets` finds there.
        streaming: read rows as they are asked for, instead of copying the dataset into the local cache first.

    Returns:
        `datasets.IterableDataset` when streaming, `datasets.Dataset` otherwise.

    Raises:
        FileNotFoundError: when there is no such folder, file or dataset.
        ValueError: when there is no such split or configuration, the file type is unknown, or what is here is asked
            for a revision.
        ConnectionError: when the dataset is on the Hub, which cannot be reached, and is not in the cache.
    """
    source = os.path.expanduser(os.fspath(dataset))
    if revision is not None and os.path.exists(source):
        raise ValueError(f"{source!r} is here and has no revisions: leave out {revision!r}, which is for the Hub.")
    if _is_saved_to_disk(source):
        return _open_saved(source, split, streaming)
    files: list[str] = []
    if os.path.isdir(source):
        builder = source
    elif files := _matching_files(source):
        builder, data_files = _builder_for(files), {split: files}
    else:
        _refuse_missing_path(source)
        builder = source
    if data_files is not None and not isinstance(data_files, Mapping):
        data_files = {split: data_files}
    _refuse_empty_shards(source, files if builder == "parquet" else [])
    options = {"name": name, "revision": revision, "data_files": data_files, "split": split}
    try:
        return _load(builder, options, streaming=streaming)
    except (OSError, datasets.exceptions.DatasetsError, ValueError) as error:
        raise _plain_error(error, source, split) from error


def whole_stream(rows: Iterable[_Row]) -> Iterator[_Row]:
    """The rows; where the Hub breaks off in their middle, that is told with its cause.

    Raises:
        ConnectionError: when it does, after the attempts that `datasets` makes.
    """
    try:
        yield from rows
    except ConnectionError as error:
        raise ConnectionError(explain(error) or str(error)) from error


class RowReader:
    """Reads [`Row`]s out of the rows of a dataset; the layout of its labels is checked once, against its features.

    | labels in the dataset | how to name them |
    |---|---|
    | a list of strings | `label_column="labels"` |
    | a list of `ClassLabel`, or a single one | `label_column="labels"` |
    | inside a struct or a list of structs, strings or `ClassLabel` | `label_column="objects.categories"` |
    | one string with all of them | `label_column="labels", label_separator="|"` |
    | one column for each label: 1, 0, or -1 for unknown | `label_columns=["hat", "glasses"]` |

    Beside `label_column`, a column `unknown_labels` may hold labels that nobody has looked for, in the same forms.

    Args:
        features: `dataset.features`; see [`RowReader.from_dataset`] for streams that do not know theirs.
        image_column: column with an `Image`, encoded bytes, or paths.
        label_column: column with the labels; dots lead into structs.
        label_columns: the columns that hold 1, 0, or -1 for unknown, each named as its label.
        label_separator: what stands between the labels of a string.
        boxes_column: column with a list of {label, x0, y0, x1, y1}, in pixels.

    Raises:
        ValueError: when a column is missing or holds something else, or not exactly one of `label_column` and
            `label_columns` is given.
    """

    def __init__(
        self,
        features: datasets.Features,
        *,
        image_column: str = "image",
        label_column: str | None = None,
        label_columns: Sequence[str] | None = None,
        label_separator: str | None = None,
        boxes_column: str | None = None,
    ):
        self._separator = label_separator
        if (label_column is None) == (not label_columns):
            raise ValueError(
                f"Give either `label_column` or `label_columns`; the columns are {_listed(features)}. "
                f"Got {label_column!r} and {label_columns!r}."
            )
        self._image_feature = _check_image(features, image_column)
        self._image_column = image_column
        self._boxes_column = boxes_column
        self._box_names = None if boxes_column is None else _check_boxes(features, boxes_column)
        self.label_names: list[str] | None  # every label the features know, None where they are free strings
        self._unknown_names: list[str] | None = None
        self._has_unknown = label_columns is None and UNKNOWN_COLUMN in features
        if self._has_unknown:
            _, self._unknown_names = _resolve_labels(features, UNKNOWN_COLUMN, label_separator)
        self._read_labels: Callable[[Mapping[str, Any]], tuple[list[str], tuple[str, ...]]]
        if label_columns:
            self.label_names = _check_truth_columns(features, label_columns)
            self._read_labels = self._labels_from_columns
            self._label_tops = self.label_names
        else:
            self._path, self.label_names = _resolve_labels(features, str(label_column), label_separator)
            self._read_labels = self._labels_from_leaves
            self._label_tops = [self._path[0], *([UNKNOWN_COLUMN] if self._has_unknown else [])]

    @classmethod
    def from_dataset(cls, dataset: AnyDataset, **columns: Any) -> "RowReader":
        """Build a reader for a dataset; when a stream does not know its features, its first rows are looked at."""
        features = dataset.features
        if features is None:  # JSON lines, a stream after `map`, ...
            features = dataset._resolve_features().features
        return cls(features, **columns)

    def check_labels(self, names: Iterable[str]) -> None:
        """Refuse a label that the dataset does not have, where it knows all of its labels.

        Raises:
            ValueError: the message has the nearest label that is there.
        """
        for name in names:
            if self.label_names is not None and name not in self.label_names:
                raise ValueError(f"The dataset has no label {name!r}. {did_you_mean(name, self.label_names)}")

    def select(self, dataset: AnyDataset) -> AnyDataset:
        """Keep the columns that are read, and leave images encoded: they are decoded later, by the workers."""
        columns = dict.fromkeys([self._image_column, *self._label_tops, self._boxes_column])
        dataset = dataset.select_columns([column for column in columns if column is not None])
        if isinstance(self._image_feature, datasets.Image):
            dataset = dataset.cast_column(self._image_column, datasets.Image(decode=False))
        return dataset

    def labels(self, dataset: AnyDataset) -> Iterator[list[str]]:
        """The labels of each row of the dataset that [`RowReader.select`] gave, in its order, without its images.

        Raises:
            ValueError: when one of `label_columns` holds none of 1, 0 and -1.
        """
        for row in whole_stream(dataset.select_columns(list(self._label_tops))):
            yield self._read_labels(row)[0]

    def read(self, row: Mapping[str, Any]) -> Row:
        """Read one row of the dataset that [`RowReader.select`] gave.

        Raises:
            ValueError: when the row has no image, or one of `label_columns` holds none of 1, 0 and -1.
        """
        image, path = self._read_image(row[self._image_column])
        boxes = None if self._boxes_column is None else self._read_boxes(row[self._boxes_column])
        labels, unknown = self._read_labels(row)
        return Row(image, labels, boxes, path, unknown)

    def _read_image(self, value: Any) -> tuple[bytes | str, str | None]:
        if isinstance(value, Mapping):
            image, path = value.get("bytes") or value.get("path"), value.get("path")
        else:
            image, path = value, value if isinstance(value, str) else None
        if not image:
            raise ValueError(f"The row has no image in column {self._image_column!r}.")
        if not isinstance(image, bytes | str):
            raise ValueError(
                f"Column {self._image_column!r} holds a decoded {type(image).__name__}; "
                "read the rows of `reader.select(dataset)`."
            )
        return image, path

    def _labels_from_columns(self, row: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
        for column in self._label_tops:
            if row[column] not in (0, 1, -1):
                raise ValueError(
                    f"The label column {column!r} must hold 1, 0, or -1 for unknown, got {row[column]!r}."
                )
        present = [column for column in self._label_tops if row[column] == 1]
        return present, tuple(column for column in self._label_tops if row[column] == -1)

    def _labels_from_leaves(self, row: Mapping[str, Any]) -> tuple[list[str], tuple[str, ...]]:
        leaves = _leaves(row[self._path[0]], self._path[1:])
        labels = self._names_in(leaves, self.label_names)
        if not self._has_unknown:
            return labels, ()
        unknown = self._names_in(_leaves(row[UNKNOWN_COLUMN], ()), self._unknown_names)
        return labels, tuple(name for name in unknown if name not in labels)

    def _names_in(self, leaves: Iterable[Any], known: list[str] | None) -> list[str]:
        names = _distinct(_name(leaf, known) for leaf in leaves)
        if self._separator is None:
            return names
        return _distinct(part.strip() for name in names for part in name.split(self._separator))

    def _read_boxes(self, value: Any) -> list[Box]:
        if isinstance(value, Mapping):  # a struct of lists
            value = [dict(zip(value, entries, strict=True)) for entries in zip(*value.values(), strict=True)]
        return [
            Box(
                label=_name(box["label"], self._box_names) or "",
                x0=box["x0"],
                y0=box["y0"],
                x1=box["x1"],
                y1=box["y1"],
            )
            for box in value or []
        ]


# --- labels ---------------------------------------------------------------------------------------------------------


def _distinct(names: Iterable[str | None]) -> list[str]:
    return list(dict.fromkeys(name for name in names if name))


def _leaves(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Walk down lists, and structs along `path`; so a struct of lists and a list of structs are read alike."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _leaves(entry, path)
    elif value is not None:
        if path:
            yield from _leaves(value[path[0]], path[1:])
        else:
            yield value


def _name(leaf: str | int, names: Sequence[str] | None) -> str | None:
    """The label's name; None for -1, which `datasets` uses for "not labelled"."""
    if isinstance(leaf, str) or names is None:
        return str(leaf)
    return names[leaf] if leaf >= 0 else None


def _resolve_labels(
    features: datasets.Features, column: str, separator: str | None
) -> tuple[list[str], list[str] | None]:
    """The way to the labels, and all their names where the features know them."""
    path = [column] if column in features else column.split(".")
    feature: Any = features
    in_list = False
    for depth, key in enumerate(path):
        feature, is_list = _unwrap(feature)
        in_list |= is_list
        if not isinstance(feature, Mapping) or key not in feature:
            inside = f"; {'.'.join(path[:depth])!r} holds {_described(feature)}" if depth else ""
            raise ValueError(f"There is no label column {column!r}: the columns are {_listed(features)}{inside}.")
        feature = feature[key]
    held = _described(feature)
    feature, is_list = _unwrap(feature)
    if isinstance(feature, datasets.ClassLabel):
        return path, list(feature.names)
    if getattr(feature, "dtype", None) in _STRING_TYPES and (in_list or is_list or separator):
        return path, None
    raise ValueError(
        f"The label column {column!r} holds {held}; expected a list of strings or of ClassLabel, or "
        "`label_separator` for a string of several, or `label_columns` for columns of 1, 0 and -1."
        f" The columns are {_listed(features)}."
    )


def _unwrap(feature: Any) -> tuple[Any, bool]:
    """The feature inside (lists of) lists, and whether there was a list."""
    is_list = False
    while isinstance(feature, datasets.List | datasets.LargeList | list):
        feature, is_list = (feature[0] if isinstance(feature, list) else feature.feature), True
    return feature, is_list


def _check_truth_columns(features: datasets.Features, columns: Sequence[str]) -> list[str]:
    if len(set(columns)) != len(columns):
        raise ValueError(f"`label_columns` names a column twice: {list(columns)}.")
    for column in columns:
        feature = _get(features, column, "label")
        if not _TRUTH_TYPES.fullmatch(getattr(feature, "dtype", None) or ""):
            raise ValueError(
                f"The label column {column!r} holds {_described(feature)}; expected numbers that are 1, 0 or -1. "
                f"The columns are {_listed(features)}."
            )
    return list(columns)


# --- images and boxes ---------------------------------------------------------------------------------------------


def _check_image(features: datasets.Features, column: str) -> Any:
    feature = _get(features, column, "image")
    is_struct = isinstance(feature, Mapping) and "bytes" in feature  # an Image whose type got lost on the way
    if (
        is_struct
        or isinstance(feature, datasets.Image)
        or getattr(feature, "dtype", None) in _BINARY_TYPES | _STRING_TYPES
    ):
        return feature
    raise ValueError(
        f"The image column {column!r} holds {_described(feature)}; expected an Image, encoded bytes or paths. "
        f"The columns are {_listed(features)}."
    )


def _check_boxes(features: datasets.Features, column: str) -> list[str] | None:
    """Names of the boxes' labels where the features know them."""
    box, _ = _unwrap(_get(features, column, "boxes"))
    if not isinstance(box, Mapping) or not set(Box.__annotations__) <= set(box):
        raise ValueError(
            f"The boxes column {column!r} holds {_described(features[column])}; expected a list of "
            "{label, x0, y0, x1, y1}. "
            f"The columns are {_listed(features)}."
        )
    label, _ = _unwrap(box["label"])
    return list(label.names) if isinstance(label, datasets.ClassLabel) else None


def _get(features: datasets.Features, column: str, what: str) -> Any:
    if column not in features:
        raise ValueError(f"There is no {what} column {column!r}: the columns are {_listed(features)}.")
    return features[column]


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in features)


def _described(feature: Any) -> str:
    if isinstance(feature, datasets.List | datasets.LargeList | list):
        return f"a list of {_described(_unwrap(feature)[0])}"
    if isinstance(feature, Mapping):
        return f"a struct of {_listed(feature)}"
    return feature.dtype if isinstance(feature, datasets.Value) else type(feature).__name__


# --- opening --------------------------------------------------------------------------------------------------------


def _load(builder: str, options: Mapping[str, Any], *, streaming: bool) -> AnyDataset:
    """Load, with strings where lists that are empty in the first shard would make the others' strings misfits."""
    try:
        dataset = datasets.load_dataset(builder, streaming=streaming, **options)
        if not streaming:
            return dataset
        features = _features_of(dataset)
    except datasets.exceptions.DatasetGenerationError:
        features = _features_of(datasets.load_dataset(builder, streaming=True, **options))
        if not _has_null(features):
            raise
    if not _has_null(features):
        return dataset
    return datasets.load_dataset(builder, streaming=streaming, features=_null_as_string(features), **options)


def _features_of(dataset: AnyDataset) -> Any:
    return dataset.features if dataset.features is not None else dataset._resolve_features().features


def _has_null(feature: Any) -> bool:
    if isinstance(feature, Mapping):
        return any(map(_has_null, feature.values()))
    inner, is_list = _unwrap(feature)
    return _has_null(inner) if is_list else getattr(inner, "dtype", None) == "null"


def _null_as_string(feature: Any) -> Any:
    if isinstance(feature, datasets.Features):
        return datasets.Features({name: _null_as_string(inner) for name, inner in feature.items()})
    if isinstance(feature, Mapping):
        return {name: _null_as_string(inner) for name, inner in feature.items()}
    if isinstance(feature, datasets.List | datasets.LargeList):
        return type(feature)(_null_as_string(feature.feature))
    return datasets.Value("string") if getattr(feature, "dtype", None) == "null" else feature


def _refuse_empty_shards(source: str, files: Sequence[str]) -> None:
    """`datasets` cannot read a parquet file without rows, and does not say which it is."""
    import pyarrow.parquet as pq

    for file in files or sorted(glob.glob(os.path.join(glob.escape(source), "**", "*.parquet"), recursive=True)):
        try:
            num_rows = pq.read_metadata(file).num_rows
        except (OSError, ValueError) as error:
            raise ValueError(f"The shard {file!r} is no whole parquet file ({error}).") from error
        if num_rows == 0:
            raise ValueError(f"The shard {file!r} has no rows: remove it.")


def _is_saved_to_disk(source: str) -> bool:
    return any(os.path.isfile(os.path.join(source, file)) for file in ("state.json", "dataset_dict.json"))


def _open_saved(source: str, split: str, streaming: bool) -> AnyDataset:
    saved = datasets.load_from_disk(source)
    # A single dataset may not remember which split it was.
    splits = saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or split): saved}
    if split not in splits:
        raise ValueError(_no_split(source, split, _listed(splits)))
    rows = splits[split]
    if not streaming:
        return rows
    return rows.to_iterable_dataset(num_shards=min(len(rows), len(rows.cache_files) or 1))


def _matching_files(source: str) -> list[str]:
    if os.path.isfile(source):
        return [source]
    if _RANGE.search(source):
        return [file for each in _expanded(source) for file in _existing(each)]
    return [file for file in matching_paths(source) if os.path.isfile(file)]


def _expanded(source: str) -> list[str]:
    """Names with each number of the ranges in it, such as `{000..042}`, as WebDataset writes them."""
    found = _RANGE.search(source)
    if found is None:
        return [source]
    numbers = range(int(found[1]), int(found[2]) + 1)
    names = (f"{source[: found.start()]}{number:0{len(found[1])}d}{source[found.end() :]}" for number in numbers)
    return [name for each in names for name in _expanded(each)]


def _existing(source: str) -> list[str]:
    files = _matching_files(source)
    if not files:
        raise FileNotFoundError(f"There is no file {source!r}.")
    return files


def _builder_for(files: list[str]) -> str:
    endings = {Path(file).suffix for file in files}
    if len(endings) > 1 or not endings <= _BUILDERS.keys():
        raise ValueError(f"Data files must end alike, in one of {', '.join(_BUILDERS)}; got {sorted(endings)}.")
    return _BUILDERS[endings.pop()]


def _refuse_missing_path(source: str) -> None:
    """Whatever cannot be an id on the Hub was meant to be a path."""
    if glob.has_magic(source):
        raise FileNotFoundError(f"No file matches {source!r}.")
    if not re.fullmatch(r"[\w\-]+(/[\w.\-]+)?", source) or Path(source).suffix in _BUILDERS:
        hint = f" Did you mean {intended!r}, on the Hub?" if (intended := intended_id(source)) else ""
        raise FileNotFoundError(f"There is no folder or file {source!r}.{hint}")


def _plain_error(error: Exception, source: str, split: str) -> Exception:
    """One sentence for what `datasets` says in many ways."""
    message = str(error)
    if "[" in split:
        return ValueError(f"Cannot open split {split!r}: a stream takes no slices, pass `streaming=False` for them.")
    options = re.search(r"\[(.*)\]", message)
    where = "in the folder" if os.path.isdir(source) else "on the Hub"
    if options and re.search("split", message, re.IGNORECASE):
        return ValueError(_no_split(source, split, options[1]))
    if options and "BuilderConfig" in message:
        return ValueError(f"Dataset {source!r} has no such configuration (`name`); it has {options[1]}.")
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        return ValueError(f"Dataset {source!r} cannot be read: {_first_cause(error)}")
    if isinstance(error, datasets.exceptions.DataFilesNotFoundError) or type(error).__name__ == "EmptyDatasetError":
        return FileNotFoundError(f"Found no data files of a known type {where} {source!r}.")
    if plain := next(filter(None, (plain_error(each, source) for each in _contexts(error))), None):
        return plain
    if isinstance(error, ConnectionError):
        return ConnectionError(f"Dataset {source!r} is not in the local cache and the Hub cannot be reached.")
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        hint = f" Check the name; for private ones {LOG_IN}." if "cannot be accessed" in message else ""
        return FileNotFoundError(f"Cannot open dataset {source!r}: {message.splitlines()[0]}{hint}")
    return error


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """An error and those that were at hand when it was raised: `datasets` drops the causes of what it raises."""
    at_hand: BaseException | None = error
    while at_hand is not None:
        yield at_hand
        at_hand = at_hand.__context__


def _first_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _no_split(source: str, split: str, options: str) -> str:
    return f"Dataset {source!r} has no split {split!r}; it has {options}."


__all__ = ["AnyDataset", "Box", "DatasetSpec", "Row", "RowReader", "open_dataset", "whole_stream"]
