"""`ram-hf tag` from its arguments to its outputs; what needs a process of its own is in test_processes.py."""

import io
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from ram_hf.cli import main
from ram_hf.tagging import command
from ram_hf.tagging.scoring import HOW_TO_CALIBRATE
from tests.conftest import LABELS

from .hostile import photograph, save_frames, save_photographs, save_png_bomb, save_truncated


@pytest.fixture
def tag(tmp_path, monkeypatch, model_folder):
    """Run the command in a folder of its own; returns its exit status."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, labels=None):
        labels = ", ".join(LABELS) if labels is None else labels
        return main(["tag", *map(str, arguments), "--model", str(model_folder), "--labels", labels])

    return run


def rows(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_jsonl_holds_what_model_and_processor_say(tag, tmp_path, tiny_model, tiny_processor):
    paths = save_photographs(tmp_path / "photos", 5)
    assert tag("photos", "--output", "tags.jsonl", "--top-k", 2, "--batch-size", 2) == 0
    output = tiny_model(**tiny_processor(images=list(map(str, paths)), labels=LABELS))
    expected = tiny_processor.post_process_tagging(output, LABELS, top_k=2)
    found = rows(tmp_path / "tags.jsonl")
    assert [row["path"] for row in found] == [f"photos/000{index}.jpg" for index in range(5)]
    for row, tags in zip(found, expected, strict=True):
        assert list(row) == ["path", "tags", "error"]
        assert row["error"] is None
        assert [tag["label"] for tag in row["tags"]] == [tag["label"] for tag in tags]
        assert [tag["score"] for tag in row["tags"]] == pytest.approx([tag["score"] for tag in tags], rel=1e-4)


def test_in_half_precision_scores_move_a_little(tag, tmp_path):
    save_photographs(tmp_path / "photos", 3)
    found = {}
    for dtype in ("float32", "bfloat16"):
        words = "--top-k", len(LABELS), "--score", "paper", "--dtype", dtype
        assert tag("photos", *words, "--output", f"{dtype}.jsonl") == 0
        told = rows(tmp_path / f"{dtype}.jsonl")
        found[dtype] = [
            score for row in told for _, score in sorted((tag["label"], tag["score"]) for tag in row["tags"])
        ]
    assert found["float32"] != found["bfloat16"]
    assert found["bfloat16"] == pytest.approx(found["float32"], abs=0.03)


def test_threshold_template_and_a_plain_clip(tag, tmp_path, tiny_model, tiny_processor, capsys):
    save_photographs(tmp_path / "photos", 3)
    for part in (tiny_model.clip, tiny_processor.image_processor, tiny_processor.tokenizer):
        part.save_pretrained(tmp_path / "clip")
    options = ["tag", "photos", "--labels", "dog, tree", "--model", str(tmp_path / "clip")]
    assert main([*options, "--threshold", "0.5"]) == 0
    assert all(float(line.split("\t")[2]) >= 0.5 for line in capsys.readouterr().out.splitlines())
    assert main([*options, "--threshold", "0"]) == 0
    plain = capsys.readouterr().out
    assert len(plain.splitlines()) == 6
    assert main([*options, "--prompt-template", "{label}, seen at night"]) == 0
    shown = capsys.readouterr().out
    assert shown != plain
    both = ["--prompt-template", "{label}, seen at night", "--prompt-template", "openai-7"]
    assert main([*options, *both]) == 0
    assert capsys.readouterr().out not in (plain, shown)
    assert main([*options, "--prompt-template", "openai7"]) == 2
    refusal = capsys.readouterr().err
    assert "--prompt-template: must be a sentence with {label}" in refusal
    assert "Did you mean 'openai-7'?" in refusal


def test_the_best_labels_are_judged_again(tag, tmp_path, calibrated_folder, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert tag("photos", "--output", "plain.jsonl", "--top-k", 4) == 0
    assert tag("photos", "--output", "refined.jsonl", "--top-k", 4, "--refine", 2) == 0
    plain, refined = (rows(tmp_path / f"{name}.jsonl") for name in ("plain", "refined"))
    for before, after in zip(plain, refined, strict=True):
        before, after = ({tag["label"]: tag["score"] for tag in row["tags"]} for row in (before, after))
        assert 1 <= sum(before[label] != score for label, score in after.items()) <= 2
    calibrated = ["tag", "photos", "--labels", "dog, tree", "--model", str(calibrated_folder), "--refine", "2"]
    assert main(calibrated) == 1
    assert "it goes with `--score paper` alone" in capsys.readouterr().err
    assert main([*calibrated, "--score", "paper"]) == 0


def test_tables_for_programs_and_for_people(tag, tmp_path, capsys, monkeypatch):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "new\nline\t.png")
    (tmp_path / "broken.png").write_bytes(b"")
    assert tag(".", "--top-k", 1, labels="a, b\u00e9") == 0
    shown = capsys.readouterr()
    ((path, label, score),) = (line.split("\t") for line in shown.out.splitlines())
    assert path == "./new\\nline\\t.png"
    assert label in ("a", "bé")
    assert 0.5 <= float(score) <= 1
    assert shown.err == f"1 picture tagged, 1 failed\n  ./broken.png: the file is empty\n{HOW_TO_CALIBRATE}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert tag(".", "--threshold", 0, labels="a, longer") == 0
    broken, fine = capsys.readouterr().out.splitlines()
    assert broken == "./broken.png       the file is empty"
    assert fine.startswith("./new\\nline\\t.png  ")
    assert {"a", "longer"} <= set(fine.split())
    assert tag(".", "--threshold", 1, labels="a, longer") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  none of these labels")


def test_labels_from_a_file_and_duplicates(tag, tmp_path, capsys, model_folder):
    save_photographs(tmp_path / "photos", 1)
    (tmp_path / "labels.txt").write_text("# my labels\ndog\n\nred car\ndog\n", encoding="utf-8-sig")
    options = ["tag", "photos", "--model", str(model_folder)]
    assert main([*options, "--labels-file", "labels.txt", "--threshold", "0"]) == 0
    from_file = capsys.readouterr().out
    assert {line.split("\t")[1] for line in from_file.splitlines()} == {"dog", "red car"}
    assert main([*options, "--labels", "dog,, red car ,dog,", "--threshold", "0"]) == 0
    assert capsys.readouterr().out == from_file


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--labels", " , "], "There is no label in `--labels ' , '`"),
        (["photos", "--labels", "a\x07b"], "A label holds a control character, '\\x07': 'a\\x07b'"),
        (["photos", "--labels-file", "gone.txt"], "There is no label file 'gone.txt'"),
        (["photos", "--labels-file", "empty.txt"], "The label file 'empty.txt' holds no label"),
        (["photos", "--labels-file", "photos/0000.jpg"], "The label file 'photos/0000.jpg' is not text in UTF-8"),
        (["gone", "--labels", "a"], "There is no file or folder 'gone'"),
        (["photos", "--labels", "a", "--output", "tags.txt"], "must end with .jsonl, .csv, .parquet, got 'tags.txt'"),
        (["photos", "--labels", "a", "--output", "no/tags.jsonl"], "There is no folder for 'no/tags.jsonl'"),
        (["photos", "--labels", "a", "--output", "old.jsonl"], "'old.jsonl' exists. Pass `--resume` to go on with it"),
        (["photos", "--labels", "a", "--output", "old.jsonl", "--resume"], "Line 1 of 'old.jsonl' is not a row"),
        (["photos", "--labels", "a", "--resume"], "`--resume` needs something to go on with"),
        (["photos", "--labels", "a", "--model", "./gone"], "There is no model './gone': no such folder"),
        (["photos", "--labels", "a", "--model", "photos"], "'photos' holds no `config.json`"),
        (
            ["photos", "--labels", "a", "--model", "me/none"],
            "is neither a folder nor in the cache, and the Hub cannot",
        ),
        (["photos", "--labels", "a" * 90], "Label 0 takes"),
        (["photos", "--labels", "a", "--device", "abacus"], "abacus"),
    ],
)
def test_errors_are_one_line_and_leave_nothing_behind(arguments, message, tmp_path, monkeypatch, capsys, model_folder):
    monkeypatch.chdir(tmp_path)
    save_photographs(tmp_path / "photos", 1)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "old.jsonl").write_text("something else\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    model = [] if "--model" in arguments else ["--model", str(model_folder)]
    assert main(["tag", *arguments, *model]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("ram-hf: error: ")
    assert shown.err.count("\n") == 1
    assert message in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "old.jsonl").read_text() == "something else\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_from_strangers(workers, tag, tmp_path, capsys):
    """One folder with everything: each is tagged or reported, in order, and the run goes on."""
    folder = tmp_path / "photos"
    save_photographs(folder, 2)
    save_png_bomb(folder / "bomb.png")
    save_truncated(folder / "truncated.jpg")
    save_frames(folder / "animated.gif")
    save_frames(folder / "pages.tiff")
    photograph(30_000, 2_000).save(folder / "panorama.jpg")
    photograph(40, 30).save(folder / "named_wrongly.png", "JPEG")
    photograph(40, 30).save(folder / "new\nline.jpg")
    photograph(40, 30).save(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9.jpg"))
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    os.mkfifo(folder / "pipe.jpg")
    assert tag("photos", "--output", "tags.jsonl", "--workers", workers, "--batch-size", 4, "--strict") == 1
    found = {row["path"].removeprefix("photos/"): row for row in rows(tmp_path / "tags.jsonl")}
    failed = {"bomb.png", "truncated.jpg", "loop.jpg", "pipe.jpg"}
    tagged = {"0000.jpg", "0001.jpg", "animated.gif", "pages.tiff", "panorama.jpg", "named_wrongly.png"}
    assert set(found) == failed | tagged | {"new\nline.jpg", "latin-\\xe9.jpg"}
    assert {name for name, row in found.items() if row["error"]} == failed
    assert all(bool(row["tags"]) == (row["error"] is None) for row in found.values())
    shown = capsys.readouterr().err
    assert shown.startswith("8 pictures tagged, 4 failed\n")
    assert "photos/bomb.png: Cannot read the file as an image: 60,000 x 60,000 pixels are more than the" in shown
    assert tag("photos", "--output", "again.jsonl") == 0  # without --strict


def test_many_failures_are_counted_and_the_first_named(tag, tmp_path, capsys):
    for index in range(12):
        (tmp_path / f"{index:02d}.jpg").touch()
    assert tag(".", "--output", "tags.jsonl") == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 pictures tagged, 12 failed"
    assert lines[1] == "  ./00.jpg: the file is empty"
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 12


def test_names_on_standard_input(tag, tmp_path, monkeypatch):
    save_photographs(tmp_path / "photos", 2)
    names = b"photos/0001.jpg\0gone\n.jpg\0"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(names)))
    assert tag("-", "--output", "tags.jsonl") == 0
    found = rows(tmp_path / "tags.jsonl")
    assert [(row["path"], row["error"]) for row in found] == [
        ("photos/0001.jpg", None),
        ("gone\n.jpg", "No such file or directory"),
    ]


def test_resume_passes_over_what_is_done_and_completes_the_same_file(tag, tmp_path, capsys, monkeypatch):
    save_photographs(tmp_path / "photos", 11)
    (tmp_path / "photos" / "0004.jpg").write_bytes(b"")
    options = ("photos", "--batch-size", 3, "--output")
    assert tag(*options, "whole.jsonl") == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    capsys.readouterr()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 3, 20, ends[0], ends[2], ends[4] + 1, ends[6] - 1, ends[-1] - 1, ends[-1]):
        (tmp_path / "tags.jsonl").write_bytes(whole[:cut])
        assert tag(*options, "tags.jsonl", "--resume") == 0
        assert (tmp_path / "tags.jsonl").read_bytes() == whole
        held = sum(end <= cut for end in ends)
        assert capsys.readouterr().err.startswith(f"{11 - held - (held < 5)} picture")
    monkeypatch.setattr(command, "_make_tagger", None)  # when all is done, no model is loaded
    assert tag(*options, "tags.jsonl", "--resume") == 0


def test_resume_tags_what_has_come_since(tag, tmp_path):
    save_photographs(tmp_path / "photos", 6)
    (tmp_path / "photos" / "0001.jpg").rename(tmp_path / "later.jpg")
    assert tag("photos", "--output", "tags.jsonl", "--batch-size", 4) == 0
    (tmp_path / "later.jpg").rename(tmp_path / "photos" / "0001.jpg")
    assert tag("photos", "--output", "tags.jsonl", "--batch-size", 4, "--resume") == 0
    found = [row["path"] for row in rows(tmp_path / "tags.jsonl")]
    assert found == [f"photos/000{index}.jpg" for index in (0, 2, 3, 4, 5, 1)]


def test_resuming_with_other_options_is_refused(tag, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert tag("photos", "--output", "tags.jsonl", "--top-k", 2) == 0
    capsys.readouterr()
    for options, message in (
        ({"labels": "zebra, dog"}, "not among the labels of this run"),
        ({"more": ["--top-k", 1]}, "pictures with 2 tags, where this run gives 1"),
        ({"more": ["--top-k", 3]}, "pictures with 2 tags, where this run gives 3"),
        ({"more": ["--threshold", 0.9]}, "scores below this run's threshold of 0.9"),
    ):
        more, labels = options.get("more", ["--top-k", 2]), options.get("labels", ", ".join(LABELS))
        assert tag("photos", "--output", "tags.jsonl", "--resume", *more, labels=labels) == 1
        assert message in capsys.readouterr().err


def test_sidecars_beside_pictures_that_stay_as_they_are(tag, tmp_path, capsys):
    paths = save_photographs(tmp_path / "photos", 3)
    paths[1].write_bytes(b"")
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    assert tag("photos", "--sidecar", "txt", "--top-k", 2) == 0
    assert tag("photos", "--sidecar", "xmp", "--output", "tags.parquet") == 0
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before
    names = sorted(path.name for path in (tmp_path / "photos").iterdir())
    assert names == ["0000.jpg", "0000.jpg.xmp", "0000.txt", "0001.jpg", "0002.jpg", "0002.jpg.xmp", "0002.txt"]
    assert len((tmp_path / "photos" / "0000.txt").read_text().split(", ")) == 2
    capsys.readouterr()
    assert tag("photos", "--sidecar", "txt") == 1
    assert "2 of 3 pictures have a .txt file beside them" in capsys.readouterr().err
    assert tag("photos", "--sidecar", "txt", "--top-k", 2, "--resume") == 0
    assert capsys.readouterr().err.startswith("0 pictures tagged, 1 failed\n")
    (tmp_path / "labels.txt").write_text("a, b\n")
    assert main(["tag", "photos", "--labels-file", "labels.txt", "--sidecar", "txt"]) == 1
    assert "The label 'a, b' holds a comma" in capsys.readouterr().err


def test_what_goes_wrong_beside_a_picture_is_told_in_the_output(tag, tmp_path, capsys):
    save_photographs(tmp_path, 2)
    (tmp_path / "0000.jpg.xmp").write_text("no xml")
    assert tag("0000.jpg", "0001.jpg", "--sidecar", "xmp", "--output", "tags.jsonl", "--strict") == 1
    first, second = rows(tmp_path / "tags.jsonl")
    assert first["error"].startswith("cannot add to 0000.jpg.xmp: it is not XML")
    assert first["tags"]
    assert second["error"] is None
    assert capsys.readouterr().err.startswith("1 picture tagged, 1 failed\n  0000.jpg: cannot add to")


def test_an_output_that_lacks_pictures_is_completed_beside_one_that_does_not(tag, tmp_path):
    save_photographs(tmp_path / "photos", 3)
    assert tag("photos", "--output", "tags.jsonl") == 0
    whole = (tmp_path / "tags.jsonl").read_bytes()
    assert tag("photos", "--output", "tags.jsonl", "--sidecar", "xmp", "--resume") == 0
    assert (tmp_path / "tags.jsonl").read_bytes() == whole
    assert len(list((tmp_path / "photos").glob("*.xmp"))) == 3


def test_overlays_get_the_picture_and_where_each_tag_is(
    tag, tmp_path, monkeypatch, tiny_model, tiny_processor, capsys
):
    drawn = []

    def draw_tags(image, tags):
        drawn.append((image, tags))
        return image

    monkeypatch.setattr("ram_hf.visualize.draw_tags", draw_tags)
    path, _ = save_photographs(tmp_path / "photos" / "sub", 2, size=(90, 50))
    (tmp_path / "photos" / "broken.jpg").touch()
    options = ("photos", tmp_path / "photos", os.path.join("..", tmp_path.name, "photos"), "--overlay", "drawn/here")
    assert tag(*options, "--top-k", 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 * 2  # the table is printed along
    written = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.jpg"))
    assert written == ["here/photos/sub/0000.jpg.jpg", "here/photos/sub/0001.jpg.jpg"]
    image, tags = drawn[0]
    assert image.size == (90, 50)
    output = tiny_model(**tiny_processor(images=[str(path)], labels=LABELS), output_transport_plan=True)
    for found in tags:
        plan = output.transport_plan[0, :, LABELS.index(found["label"])].detach().reshape(4, 4).numpy()
        np.testing.assert_allclose(found["heat_map"], plan / plan.max(), rtol=1e-3)
        row, column = divmod(int(plan.argmax()), 4)
        assert found["peak"] == {"x": (column + 0.5) * 90 / 4, "y": (row + 0.5) * 50 / 4}
    assert [found["score"] for found in tags] == pytest.approx(sorted(output.scores[0].tolist())[:-3:-1], rel=1e-4)
    assert tag(*options) == 1
    assert tag(*options, "--top-k", 2, "--resume") == 0
    assert len(drawn) == 2


@pytest.mark.parametrize("output", [["--output", "tags.jsonl"], ["--overlay", "drawn"], ["--sidecar", "xmp"]])
def test_a_second_run_into_an_output_is_refused_at_once(tag, tmp_path, capsys, monkeypatch, output):
    save_photographs(tmp_path / "photos", 2)
    tag_batch = command._tag_batch

    def meanwhile(*args):
        before = sorted(tmp_path.rglob("*"))
        for more in ([], ["--resume"]):
            assert tag("photos", *output, *more) == 1
            assert "ram-hf: error: Another run writes there: it holds the lock" in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before
        return tag_batch(*args)

    monkeypatch.setattr(command, "_tag_batch", meanwhile)
    assert tag("photos", *output) == 0
    assert not list(tmp_path.rglob("*.lock"))


def test_other_options_are_noticed_by_every_output(tag, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 2)
    for output in (["--sidecar", "xmp"], ["--overlay", "drawn"], ["--output", "tags.csv"]):
        assert tag("photos", *output, "--top-k", 2) == 0
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
        capsys.readouterr()
        for more, labels in (
            (["--top-k", 2], "zebra, fox, dog"),
            (["--top-k", 3], None),
            (["--threshold", 0.9], None),
        ):
            assert tag("photos", *output, *more, "--resume", labels=labels) == 1
            assert "Resume with the options it was begun with" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before
        assert tag("photos", *output, "--top-k", 2, "--resume") == 0
        assert capsys.readouterr().err.startswith("0 pictures tagged, 0 failed")


def test_captions_of_other_labels_are_told(tag, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert tag("photos", "--sidecar", "txt") == 0
    capsys.readouterr()
    assert tag("photos", "--sidecar", "txt", "--resume", "--strict", labels="zebra, fox") == 1
    assert "0 pictures tagged, 2 failed\n  photos/0000.jpg: 0000.txt has words that are not" in capsys.readouterr().err


def test_a_second_run_with_other_labels_adds_to_the_keywords(tag, tmp_path):
    save_photographs(tmp_path / "photos", 1)
    assert tag("photos", "--sidecar", "xmp", labels="zebra, fox") == 0
    assert tag("photos", "--sidecar", "xmp", labels="owl, fox") == 0
    packet = (tmp_path / "photos" / "0000.jpg.xmp").read_text()
    assert all(f"<rdf:li>{label}</rdf:li>" in packet for label in ("zebra", "fox", "owl"))


def test_a_resumed_run_with_a_shared_caption_file_equals_one_run(tag, tmp_path):
    save_photographs(tmp_path / "photos", 1)
    Image.open(tmp_path / "photos" / "0000.jpg").save(tmp_path / "photos" / "0000.png")
    assert tag("photos", "--sidecar", "txt", "--output", "tags.jsonl") == 0
    whole = (tmp_path / "tags.jsonl").read_bytes()
    assert b"belongs to another picture" in whole
    (tmp_path / "tags.jsonl").write_bytes(whole[: whole.index(b"\n") + 1])
    assert tag("photos", "--sidecar", "txt", "--output", "tags.jsonl", "--resume") == 0
    assert (tmp_path / "tags.jsonl").read_bytes() == whole


@pytest.mark.parametrize("folder", ["photos/drawn", "photos", "."])
def test_what_a_run_draws_is_not_searched_by_the_next(tag, tmp_path, capsys, folder):
    save_photographs(tmp_path / "photos", 2)
    (tmp_path / "photos" / "drawn").mkdir()
    (tmp_path / "photos" / "drawn" / "mine.jpg").write_bytes((tmp_path / "photos" / "0000.jpg").read_bytes())
    assert tag("photos", "--overlay", folder) == 0
    written = sorted(tmp_path.rglob("*"))
    (tmp_path / "photos" / "0001.jpg").unlink()  # what was drawn of it is no new picture either
    capsys.readouterr()
    assert tag("photos", "--overlay", folder, "--resume") == 0
    assert capsys.readouterr().err.startswith("0 pictures tagged, 0 failed")
    assert tag(*(tmp_path / folder).rglob("*.jpg.jpg"), "--overlay", folder) == 1
    assert "with their tags drawn by an earlier run" in capsys.readouterr().err
    assert sorted({*tmp_path.rglob("*"), tmp_path / "photos" / "0001.jpg"}) == written


@pytest.mark.parametrize("other", ["../photos", "../../photos"])
def test_two_pictures_that_would_be_drawn_into_one_file(tag, tmp_path, capsys, monkeypatch, other):
    here = tmp_path / "a" / "b"
    save_photographs(here / "photos", 1)
    monkeypatch.chdir(here)
    save_photographs(here / other, 1)
    assert tag("photos", other, "--overlay", "drawn") == 1
    assert (
        f"'photos/0000.jpg' and '{other}/0000.jpg' would both be drawn as 'drawn/photos/0000.jpg.jpg'"
        in capsys.readouterr().err
    )
    assert not (here / "drawn").exists()


def test_labels_on_standard_input(tag, tmp_path, monkeypatch, capsys, model_folder):
    save_photographs(tmp_path / "photos", 1)
    for content in (b"# mine\ndog\nred car\n", "dog\r\nred car\r\n".encode("utf-16")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert main(["tag", "photos", "--labels-file", "-", "--model", str(model_folder), "--top-k", "2"]) == 0
        assert {line.split("\t")[1] for line in capsys.readouterr().out.splitlines()} == {"dog", "red car"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["tag", "photos", "--labels-file", "-", "--model", str(model_folder)]) == 1
    assert capsys.readouterr().err == "ram-hf: error: Standard input holds no label.\n"


def test_options_that_change_nothing_are_told(tag, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 2)
    assert tag("photos", "--score", "paper", "--top-k", 9, "--exclude", "0001*", "--exclude", "old") == 0
    assert capsys.readouterr().err.splitlines() == [
        "`--exclude old` leaves out nothing.",
        "`--top-k 9` is more than there are labels, 4.",
        "1 picture tagged, 0 failed",
    ]
    assert tag("photos", "--score", "paper", "--top-k", 4, "--exclude", "0001*") == 0
    assert capsys.readouterr().err == "1 picture tagged, 0 failed\n"


def test_a_label_that_is_longer_than_the_text_tower_takes(tag, tmp_path, capsys):
    save_photographs(tmp_path / "photos", 1)
    assert tag("photos", "--output", "tags.jsonl", labels="dog, " + "a very long label " * 9) == 1
    assert "Label 1 takes" in (shown := capsys.readouterr().err)
    assert "tokens with its template but the text tower takes 77: 'a very long label" in shown
    assert not (tmp_path / "tags.jsonl").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_beside_whole_pixels_is_told_or_refused(workers, tag, tmp_path, capsys):
    _, ended, short, odd = save_photographs(tmp_path / "photos", 4)
    ended.write_bytes(ended.read_bytes()[:-2])
    short.write_bytes(short.read_bytes()[:-60])
    photograph(60, 40).save(odd, exif=b"Exif\0\0no header at all")
    expected = [None, "it ends before its end marker", "truncated", "its EXIF cannot be read"]
    assert tag("photos", "--score", "paper", "--output", "tags.jsonl", "--workers", workers) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3 pictures tagged, 1 failed"
    assert lines[1].startswith("  photos/0002.jpg: ")
    assert expected[2] in lines[1]
    assert lines[2:] == [
        "2 damaged, with all pixels there (`--strict-pictures` refuses such)",
        f"  photos/0001.jpg: {expected[1]}",
        f"  photos/0003.jpg: {expected[3]}",
    ]
    assert [bool(row["tags"]) for row in rows(tmp_path / "tags.jsonl")] == [True, True, False, True]
    assert tag("photos", "--output", "strict.jsonl", "--strict-pictures", "--workers", workers) == 0
    assert capsys.readouterr().err.startswith("1 picture tagged, 3 failed\n")
    strict = rows(tmp_path / "strict.jsonl")
    assert [bool(row["tags"]) for row in strict] == [True, False, False, False]
    for row, reason in zip(strict[1:], expected[1:], strict=True):
        assert reason in row["error"]
    assert strict[0] == rows(tmp_path / "tags.jsonl")[0] | {"tags": strict[0]["tags"]}
