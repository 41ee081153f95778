import os

import pytest

from trader_pipeline.training.adapter_files import place_new, put_back, refuse_foreign, replace_folder
from trader_pipeline_tests.training.corpus_factory import rule_corpus
from trader_pipeline_tests.training.tiny_runs import train_tiny


def made(folder, text):
    folder.mkdir(parents=True)
    (folder / "adapter_manifest.json").write_text(text)
    return folder


def test_replacing_goes_on_after_a_kill_that_left_the_old_folder(tmp_path):
    made(tmp_path / "work" / "replaced", "oldest")
    made(tmp_path / "adapter", "old")
    replace_folder(made(tmp_path / "work" / "adapter", "new"), tmp_path / "adapter")
    assert (tmp_path / "adapter" / "adapter_manifest.json").read_text() == "new"
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("killed_at", [1, 2])
def test_earlier_adapter_is_back_in_its_place_whichever_rename_a_kill_follows(
    tmp_path, monkeypatch, killed_at
):
    source, destination = made(tmp_path / "work" / "adapter", "new"), made(tmp_path / "adapter", "old")
    renames, rename = [], os.replace

    def killing(*paths):
        rename(*paths)
        renames.append(paths)
        if len(renames) == killed_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing)
        with pytest.raises(KeyboardInterrupt):
            replace_folder(source, destination)
    put_back(source, destination)
    expected = "old" if killed_at == 1 else "new"
    assert (destination / "adapter_manifest.json").read_text() == expected


def test_output_that_is_no_adapter_is_refused_before_training(tmp_path):
    (tmp_path / "adapter").mkdir()
    refuse_foreign(tmp_path / "adapter")  # empty
    (tmp_path / "adapter" / "thesis.docx").write_text("precious")
    with pytest.raises(FileExistsError, match="is no adapter"):
        train_tiny(rule_corpus(8, 4), tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "thesis.docx"]
    (tmp_path / "notes").touch()
    with pytest.raises(FileExistsError, match="is no adapter"):
        refuse_foreign(tmp_path / "notes")


def test_output_that_appeared_meanwhile_stays_and_the_new_adapter_too(tmp_path):
    source = made(tmp_path / "work" / "adapter", "new")
    for taken in (made(tmp_path / "folder", "first"), tmp_path / "file"):
        taken.exists() or taken.touch()
        with pytest.raises(FileExistsError, match=r"appeared during the training .* whole in .*work/adapter"):
            place_new(source, taken)
    assert (tmp_path / "folder" / "adapter_manifest.json").read_text() == "first"
    place_new(source, tmp_path / "free")
    assert (tmp_path / "free" / "adapter_manifest.json").read_text() == "new"


def test_link_as_output_is_followed(tmp_path):
    (tmp_path / "adapter").symlink_to(tmp_path / "disk" / "target")
    result = train_tiny(rule_corpus(8, 4), tmp_path)
    assert (tmp_path / "adapter").is_symlink()
    assert (tmp_path / "disk" / "target" / "adapter_manifest.json").is_file()
    assert result.adapter_dir == tmp_path / "adapter"
