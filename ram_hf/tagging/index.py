"""Features of images in a folder: Arrow shards that are memory-mapped, and beside them what they were computed by.

An index holds `images-00000.arrow`, ... (Arrow streams, as `datasets` keeps them: one record batch each, so that a
column lies in one piece), `index.json`, and a `README.md` by which `datasets.load_dataset` finds the shards.
"""

import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..atomic import whole_file, write_whole
from .paths import unescape_path

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
DESCRIPTION_FILE = "index.json"
BASIS_FILE = "sketch_basis.npy"
SKETCH_MEANS, SKETCH_WIDTH = 64, 32
_FORMAT = "ram_hf index of images"
_SHARDS = "images-*.arrow"
_ABOUT = ("folder", "path", "size", "modified_ns", "width", "height", "error")
_NUM_STATISTICS = 6
_README = """---
configs:
- config_name: default
  data_files: images-*.arrow
---

Features of images, made by `ram-hf index`: `ram-hf search` and `ram-hf tag` answer from them. `index.json` says by
which model, and where the images are.
"""


class IndexedImage(NamedTuple):
    """What an index says of an image beside its features.

    Attributes:
        folder: number of the folder in `IndexDescription.folders`.
        path: below it, as [`escape_path`] writes it.
        size: bytes.
        modified_ns: time of its last change, nanoseconds since 1970.
        width: pixels as it is looked at, or 0 where it cannot be read.
        height: the same.
        error: None, or why it cannot be read; its features are then zeros.
    """

    folder: int
    path: str
    size: int
    modified_ns: int
    width: int = 0
    height: int = 0
    error: str | None = None


class StoredFeatures(NamedTuple):
    """Features of B images as an index holds them; see `ImageFeatures` of the model.

    Attributes:
        image_embeds: (B, D), float16.
        statistics: (B, 6), float32.
        patch_embeds: (B, P, D), float16; None in an index without patches, as the two others.
        row_scalings: (B, P), float32.
        patch_rivals: (B, P), float32.
        sketches: (B, V, K), int8; see [`sketch_images`].
    """

    image_embeds: np.ndarray
    statistics: np.ndarray
    patch_embeds: np.ndarray | None = None
    row_scalings: np.ndarray | None = None
    patch_rivals: np.ndarray | None = None
    sketches: np.ndarray | None = None

    def spread(self, is_there: Sequence[bool]) -> "StoredFeatures":
        """The same with zeros for images that are not there: a row for each entry, theirs where it is True."""
        rows = np.asarray(is_there)

        def spread(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            whole = np.zeros((len(rows), *values.shape[1:]), values.dtype)
            whole[rows] = values
            return whole

        return StoredFeatures(*map(spread, self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class IndexDescription:
    """What stands in `index.json`.

    Args:
        model: the name or folder by which the model is loaded.
        fingerprint: of all that decides on an image's features: see [`feature_fingerprint`].
        embedding_width: D.
        num_patches: P, or 0 in an index without patches.
        folders: absolute paths of the folders that were indexed.
        complete: False while the first run, or a later one that has something to encode, has not come to its end.
    """

    model: str
    fingerprint: str
    embedding_width: int
    num_patches: int
    folders: tuple[str, ...]
    complete: bool = False

    @property
    def has_patches(self) -> bool:
        """Whether it holds what each patch shows."""
        return self.num_patches > 0

    @property
    def bytes_per_image(self) -> int:
        """Of features; path and numbers come to some hundred more."""
        embeddings = 2 * self.embedding_width * (1 + self.num_patches)
        return (
            embeddings + 4 * (2 * self.num_patches + _NUM_STATISTICS) + math.prod(self.sketch_shape) * self.has_patches
        )

    @property
    def sketch_shape(self) -> tuple[int, int]:
        """Vectors of an image's sketch, V, and their length, K."""
        return 1 + min(SKETCH_MEANS, self.num_patches), min(SKETCH_WIDTH, self.embedding_width)

    def write(self, folder: Path, basis: np.ndarray) -> None:
        """Write `index.json`, and before it the README and the basis of sketches; nothing where they are there.

        Args:
            folder: of the index.
            basis: see [`sketch_basis`], shape (K, D), float32.

        Raises:
            OSError: when they cannot be written.
        """
        if not (folder / BASIS_FILE).exists():
            content_of_basis = io.BytesIO()
            np.save(content_of_basis, basis)
            write_whole(folder / BASIS_FILE, content_of_basis.getvalue())
        content = {"format": _FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        for name, text in (("README.md", _README), (DESCRIPTION_FILE, json.dumps(content, indent=2) + "\n")):
            file = folder / name
            if not file.exists() or file.read_bytes() != text.encode():
                write_whole(file, text)


def is_index(folder: str | Path) -> bool:
    """Whether a path is a folder that says of itself that it is an index."""
    try:
        return _description_of(Path(folder)).get("format") == _FORMAT
    except (OSError, ValueError):
        return False


def read_description(folder: Path) -> IndexDescription:
    """What `index.json` says.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: when it is no index, one of a newer ram_hf, or its description is damaged.
    """
    if not folder.exists():
        raise FileNotFoundError(
            f"There is no index {str(folder)!r}: `ram-hf index FOLDER --output {folder}` makes one."
        )
    try:
        content = _description_of(folder)
    except (OSError, ValueError):
        content = {}
    if content.get("format") != _FORMAT:
        raise ValueError(f"{str(folder)!r} is not an index: it holds no {DESCRIPTION_FILE!r} of `ram-hf index`.")
    version = content.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"The index {str(folder)!r} has format {version!r}, and this ram_hf reads up to {FORMAT_VERSION}: install "
            "a newer one, or make the index again."
        )
    try:
        return IndexDescription(
            **{
                **{each.name: content[each.name] for each in fields(IndexDescription)},
                "folders": tuple(content["folders"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{str(folder / DESCRIPTION_FILE)!r} is damaged: {error}. Make the index again.") from None


def read_basis(folder: Path, description: IndexDescription) -> np.ndarray:
    """What sketches are projected on, shape (K, D), float32.

    Raises:
        ValueError: when its file is gone or damaged.
    """
    try:
        basis = np.load(folder / BASIS_FILE, allow_pickle=False)
        if basis.shape != (description.sketch_shape[1], description.embedding_width) or basis.dtype != np.float32:
            raise ValueError("it has another shape")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{str(folder / BASIS_FILE)!r} cannot be read ({error}): make the index again.") from None
    return basis


def _description_of(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / DESCRIPTION_FILE).read_bytes())
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


class ImageIndex:
    """An index, opened for reading: nothing of its features is in memory before it is asked for.

    Args:
        folder: where it is.

    Raises:
        FileNotFoundError: when there is no such folder.
        ImportError: when pyarrow is not installed.
        ValueError: when it is no index, one of a newer ram_hf, or damaged.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.description = read_description(folder)
        self._shards = [_open_shard(file, self.description) for file in shard_files(folder)]
        self._starts = np.cumsum([0, *(shard.num_rows for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def has_patches(self) -> bool:
        """Whether it holds what each patch shows."""
        return self.description.has_patches

    def images(self, start: int = 0, stop: int | None = None) -> list[IndexedImage]:
        """What is said of the images from number `start` to before `stop`."""
        stop = len(self) if stop is None else min(stop, len(self))
        found = []
        for shard, first in zip(self._shards, self._starts, strict=False):
            rows = shard.slice(
                max(0, start - first), max(0, min(stop - first, shard.num_rows) - max(0, start - first))
            )
            found += [IndexedImage(**row) for row in rows.select(_ABOUT).to_pylist()]
        return found

    def path_of(self, image: IndexedImage) -> str:
        """Where an image is, as it is opened: from the working directory where it is below it."""
        path = os.path.join(self.description.folders[image.folder], unescape_path(image.path))
        here = os.path.join(os.getcwd(), "")
        return path[len(here) :] if path.startswith(here) else path

    def image_embeds(self) -> np.ndarray:
        """(images, D), float16, in one piece; zeros where an image cannot be read."""
        width = self.description.embedding_width
        return np.concatenate([_column(each, "image_embeds") for each in self._shards] or [np.zeros((0, width), "f2")])

    def statistics(self) -> np.ndarray:
        """(images, 6), float32."""
        return np.concatenate([_column(each, "statistics") for each in self._shards] or [np.zeros((0, 6), "f4")])

    def sketches(self) -> Iterator[np.ndarray]:
        """(images, V, K), int8, a part of the images after the other."""
        for shard in self._shards:
            yield _column(shard, "sketches").reshape(-1, *self.description.sketch_shape)

    def is_broken(self) -> np.ndarray:
        """(images,), whether an image could not be read."""
        return np.concatenate(
            [each["error"].is_valid().to_numpy() for each in self._shards] or [np.zeros(0, dtype=bool)]
        )

    def features(self, numbers: np.ndarray) -> StoredFeatures:
        """The features of some images.

        Args:
            numbers: of the images, ascending.
        """
        parts = []
        for shard, first, after in zip(self._shards, self._starts, self._starts[1:], strict=False):
            rows = numbers[np.searchsorted(numbers, first) : np.searchsorted(numbers, after)] - first
            if len(rows):
                parts.append([_column(shard, name)[rows] for name in self._feature_columns])
        if not parts:
            raise ValueError("No image is asked for.")
        found = dict(zip(self._feature_columns, map(np.concatenate, zip(*parts, strict=True)), strict=True))
        if self.has_patches:
            patches = self.description.num_patches
            found["patch_embeds"] = found["patch_embeds"].reshape(len(numbers), patches, -1)
            found["sketches"] = found["sketches"].reshape(len(numbers), *self.description.sketch_shape)
        return StoredFeatures(**found)

    @property
    def _feature_columns(self) -> tuple[str, ...]:
        return StoredFeatures._fields if self.has_patches else StoredFeatures._fields[:2]


class IndexWriter:
    """Adds images to an index, a shard whenever one is full; the last one is gone on with when it has room.

    Args:
        folder: of an index, which has its description.
        description: of it.
        shard_size: images of a shard.
    """

    def __init__(self, folder: Path, description: IndexDescription, *, shard_size: int):
        self._folder, self._shard_size = folder, shard_size
        self._schema = _schema(description)
        self._waiting: list[pa.RecordBatch] = []
        files = shard_files(folder)
        self._number = int(files[-1].stem.rpartition("-")[2]) + 1 if files else 0
        if files and (last := _read_shard(files[-1], description)).num_rows < shard_size:
            self._number -= 1
            self._waiting = last.to_batches()
        self._num_written = self._num_waiting

    @property
    def _num_waiting(self) -> int:
        return sum(batch.num_rows for batch in self._waiting)

    def add(self, images: Sequence[IndexedImage], features: StoredFeatures) -> None:
        """Take images, one for each row of the features.

        Raises:
            OSError: when a shard cannot be written; those before it are whole.
        """
        import pyarrow as pa

        about = pa.Table.from_pylist([image._asdict() for image in images], schema=_schema_of_about())
        columns = [column.combine_chunks() for column in about.columns]
        for name in self._schema.names[len(columns) :]:
            values = getattr(features, name)
            kind = self._schema.field(name).type
            numbers = np.ascontiguousarray(values, kind.value_type.to_pandas_dtype()).ravel()
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(numbers), kind.list_size))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        while batch.num_rows:
            room = self._shard_size - self._num_waiting
            self._waiting.append(batch.slice(0, room))
            batch = batch.slice(room)
            if self._num_waiting >= self._shard_size:
                self.flush()
                self._waiting, self._number, self._num_written = [], self._number + 1, 0

    def flush(self) -> None:
        """Write what waits; the shard is gone on with when more comes."""
        import pyarrow as pa

        if self._num_waiting > self._num_written:
            _write_shard(self._folder / f"images-{self._number:05d}.arrow", pa.Table.from_batches(self._waiting))
            self._num_written = self._num_waiting


def change_places(folder: Path, description: IndexDescription, places: Sequence[tuple[int, str] | None]) -> None:
    """Say anew where each image of an index is, and drop those that are nowhere.

    Args:
        folder: of the index.
        description: of it.
        places: for each image number of folder and path, or None.

    Raises:
        OSError: when a shard cannot be written; it stays as it was.
    """
    import pyarrow as pa

    start = 0
    for file in shard_files(folder):
        table = _read_shard(file, description)
        mine, start = places[start : start + table.num_rows], start + table.num_rows
        kept = [place for place in mine if place is not None]
        before = list(zip(table["folder"].to_pylist(), table["path"].to_pylist(), strict=True))
        if not kept:
            file.unlink()
        elif list(mine) != before:
            table = table.filter(pa.array([place is not None for place in mine]))
            for column, name in enumerate(_ABOUT[:2]):
                values = pa.array([place[column] for place in kept], table.schema.field(name).type)
                table = table.set_column(column, table.schema.field(name), values)
            _write_shard(file, table)


def shard_files(folder: Path) -> list[Path]:
    """The shards of an index, in order."""
    return sorted(folder.glob(_SHARDS))


def _write_shard(file: Path, table: "pa.Table") -> None:
    import pyarrow as pa

    (batch,) = table.combine_chunks().to_batches()
    with (
        whole_file(file) as unfinished,
        unfinished.open("wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as stream,
    ):
        stream.write_batch(batch)


def _open_shard(file: Path, description: IndexDescription) -> "pa.Table":
    """A shard, memory-mapped."""
    pa = import_pyarrow()
    return _checked(file, description, lambda: pa.ipc.open_stream(pa.memory_map(str(file))))


def _read_shard(file: Path, description: IndexDescription) -> "pa.Table":
    """A shard in memory: its file may be replaced."""
    pa = import_pyarrow()
    return _checked(file, description, lambda: pa.ipc.open_stream(file.read_bytes()))


def _checked(file: Path, description: IndexDescription, open_stream: Any) -> "pa.Table":
    pa = import_pyarrow()
    try:
        table = open_stream().read_all()
        is_right = table.schema.equals(_schema(description)) and table.num_rows > 0
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        is_right = False
    if not is_right:
        raise ValueError(
            f"{str(file)!r} is damaged, or no shard of this index. Remove it: `ram-hf index` with the same folders "
            "encodes its images again."
        )
    return table


def _column(shard: "pa.Table", name: str) -> np.ndarray:
    """(rows, numbers) of a column of fixed length, without a copy."""
    lists = shard[name].chunk(0)
    return lists.flatten().to_numpy(zero_copy_only=True).reshape(len(lists), -1)


def _schema_of_about() -> "pa.Schema":
    pa = import_pyarrow()
    kinds = (pa.int32(), pa.string(), pa.int64(), pa.int64(), pa.int32(), pa.int32(), pa.string())
    return pa.schema(list(zip(_ABOUT, kinds, strict=True)))


def _schema(description: IndexDescription) -> "pa.Schema":
    pa = import_pyarrow()
    width, patches = description.embedding_width, description.num_patches
    columns = {"image_embeds": pa.list_(pa.float16(), width), "statistics": pa.list_(pa.float32(), _NUM_STATISTICS)}
    if patches:
        columns["patch_embeds"] = pa.list_(pa.float16(), patches * width)
        columns |= {name: pa.list_(pa.float32(), patches) for name in ("row_scalings", "patch_rivals")}
        columns["sketches"] = pa.list_(pa.int8(), math.prod(description.sketch_shape))
    schema = _schema_of_about()
    for name, kind in columns.items():
        schema = schema.append(pa.field(name, kind))
    return schema


def import_pyarrow() -> Any:
    """Pyarrow, which reads and writes shards.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise ImportError("An index needs pyarrow: pip install 'ram_hf[tag]'.") from None
    return pyarrow


__all__ = [
    "BASIS_FILE",
    "DESCRIPTION_FILE",
    "FORMAT_VERSION",
    "SKETCH_MEANS",
    "SKETCH_WIDTH",
    "ImageIndex",
    "IndexDescription",
    "IndexWriter",
    "IndexedImage",
    "StoredFeatures",
    "change_places",
    "import_pyarrow",
    "is_index",
    "read_basis",
    "read_description",
    "shard_files",
]
