"""The engine that all runs share: items found or made, what failed, the time left, folders that are one run's own."""

import logging
from functools import partial

import pytest

from vafa_monai.data.files import read_json
from vafa_monai.runs.run_log import RunLog, sentence_of
from vafa_monai.runs.work import Item, TimeLeft, Work, claimed, require_own, whole_or_aside


@pytest.fixture
def lines():
    return []


@pytest.fixture
def log(tmp_path, lines):
    with RunLog(tmp_path / "deep" / "log", lines.append) as log:
        yield log


def item(key, make, **changes):
    return Item(key=key, kind="row", make=make, told=lambda made, left: f"{key} is {made}, {left}", **changes)


def fail(error):
    raise error


# Items


def test_item_that_is_found_is_not_made(log, lines):
    found, made = item("a", partial(fail, ValueError("made")), find=lambda: 1), item("b", lambda: 2)
    work = Work([found, made], log)
    assert [work.do(one) for one in (found, made)] == [1, 2]
    assert lines == ["  done before", "b is 2, nothing left"]


def test_item_that_fails_is_listed_and_costs_the_others_nothing(log, lines, tmp_path):
    bad, good = item("bad", partial(fail, ValueError("eps must be at least 0, got -1."))), item("good", lambda: 2)
    work = Work([bad, good], log)
    assert [work.do(one) for one in (bad, good)] == [None, 2]
    assert work.failures == {"bad": "eps must be at least 0, got -1."}
    assert lines == ["  failed: eps must be at least 0, got -1.", "good is 2, nothing left"]
    assert "Traceback" in (tmp_path / "deep" / "log").read_text()


def test_item_given_up_is_no_longer_waited_for(log):
    one = item("a", lambda: 1)
    work = Work([one], log)
    work.give_up(one, "no model.")
    assert (work.failures, str(work.left)) == ({"a": "no model."}, "nothing left")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(2)], ids=["interrupt", "exit"])
def test_what_ends_the_process_is_no_failure_of_an_item(log, error):
    one = item("a", partial(fail, error))
    work = Work([one], log)
    with pytest.raises(type(error)):
        work.do(one)
    assert not work.failures


def test_error_of_whoever_is_told_is_no_failure_of_an_item(tmp_path):
    with RunLog(tmp_path / "log", lambda _: fail(BrokenPipeError())) as log:
        one = item("a", lambda: 1)
        work = Work([one], log)
        with pytest.raises(BrokenPipeError):
            work.do(one)
    assert not work.failures


# What is told


def test_time_left_grows_with_cost_and_counts_what_is_not_known():
    left = TimeLeft({"row": [1.0, 61.0, 61.0], "training": [1.0, 1.0]})
    assert str(left) == "3 x row and 2 x training left"
    left.done("row", 1.0, seconds=2)
    assert str(left) == "about 4 min and 2 x training left"
    left.done("training", 1.0, seconds=36000)
    assert str(left) == "about 10 h left"
    left.skip("training", 1.0)
    left.skip("row", 61.0)
    left.done("row", 61.0, seconds=1)
    assert str(left) == "nothing left"


def test_log_takes_what_is_printed_and_logged_until_it_is_closed(log, tmp_path, capsys):
    print("an engine's line")  # noqa: T201
    with log.taking():
        print("an engine's other line")  # noqa: T201
    logging.getLogger("monai").info("an epoch")
    assert capsys.readouterr().out == "an engine's line\n"
    log.__exit__(None, None, None)
    written = (tmp_path / "deep" / "log").read_text()
    assert "other line" in written
    assert "monai an epoch" in written


def test_log_gives_the_handlers_back(tmp_path):
    before = logging.getLogger().handlers[:], logging.getLogger().level
    with RunLog(tmp_path / "log", print):
        assert logging.getLogger().handlers != before[0]
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


def test_sentence_is_that_of_the_input():
    error = RuntimeError("failed")
    error.__cause__ = ValueError("image must be a readable volume, got 'a'.")
    error.__cause__.__cause__ = EOFError("at 3")
    assert sentence_of(error) == "image must be a readable volume, got 'a'."
    assert sentence_of(KeyError()) == "KeyError"


# Folders


def test_folder_is_held_by_one_process_and_then_free(tmp_path):
    again = pytest.raises(ValueError, match=r"another demo runs in '.*' now; a folder takes one\.")
    with claimed(tmp_path, "demo"), claimed(tmp_path, "study", 0), claimed(tmp_path, "study", 1), again:
        claimed(tmp_path, "demo").__enter__()
    with claimed(tmp_path, "demo"):
        pass


def test_folder_with_something_else_is_refused(tmp_path):
    mark = tmp_path / "demo.json"
    (tmp_path / ".half").write_text("")
    for folder in (tmp_path, tmp_path / "absent"):
        require_own(folder, "demo", folder / mark.name)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="output must be a new or empty folder or that of a demo, got"):
        require_own(tmp_path, "demo", mark)
    mark.write_text("{}")
    require_own(tmp_path, "demo", mark)


def test_damaged_file_is_set_aside_and_told(tmp_path, lines):
    path = tmp_path / "record.json"
    assert whole_or_aside(path, read_json, lines.append) is None
    path.write_text('{"a": 1}')
    assert whole_or_aside(path, read_json, lines.append) == {"a": 1}
    assert lines == []
    path.write_text("{")
    assert whole_or_aside(path, read_json, lines.append) is None
    assert lines[0].startswith(f"set aside: {path}.damaged, to be made again (")
    assert not path.exists()
