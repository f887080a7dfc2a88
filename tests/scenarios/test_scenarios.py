"""The golden scenarios: what happens is what is written under each step. `pytest --rewrite` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from viewstamp.simulation.scenario import ScenarioError, main, transcribe

_HERE = Path(__file__).parent
_FILES = sorted(_HERE.glob("*/*.scenario"))


@pytest.mark.parametrize("path", _FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_scenario(path: Path, request: pytest.FixtureRequest) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# "), "a scenario begins by saying what would go wrong"
    actual = transcribe(text, str(path.relative_to(_HERE)))
    if request.config.getoption("--rewrite"):
        path.write_text(actual, encoding="utf-8")
    assert actual.splitlines() == path.read_text(encoding="utf-8").splitlines()


def test_there_are_scenarios() -> None:
    assert len(_FILES) > 60


BEGINNING = "# why\nmembers 3\ndeliver quietly\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dance", "no command is called 'dance'"),
        ("crash", "expected a member (a number)|at the end of the line"),
        ("crash 7", "no member 7; there are 1, 2, 3"),
        ("crash two", "expected a member (a number), found 'two'"),
        ("crash 2 softly", "did not expect 'softly'"),
        ("drop 1 2", "expected '->', found '2'"),
        ("tick soon", "expected a time such as 400ms or 2s, found 'soon'"),
        ("restart 1", "member 1 runs already"),
        ("expect miracles", "nothing to expect is called 'miracles'"),
        ("expect acked z", "no request is called 'z'"),
        ("expect primary 2", "primary 2 expected, found 1"),
        ("expect view 4 at 1 2", "'4' expected at member 1, found '0'"),
        ("request 1 as", "expected new names for the requests"),
        ("snapshot 1", "or it has committed nothing more"),
        ("snapshot 1 keeping few", "expected how many entries (a number), found 'few'"),
        ("lose snapshot 2", "member 2 needs no snapshot"),
        ("page 1", "`page` comes before `members`"),
        ("expect snapshot 4 at 1", "a snapshot at op 4 expected on the disk of member 1, found 0"),
    ],
)
def test_an_error_names_file_and_line_and_what_was_expected(line: str, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        transcribe(f"{BEGINNING}{line}\n", "some.scenario")
    assert str(caught.value).startswith("some.scenario:4: ")
    assert any(part in str(caught.value) for part in message.split("|"))


def test_a_scenario_needs_members_first() -> None:
    with pytest.raises(ScenarioError, match="begins with `members N`"):
        transcribe("deliver\n")


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ScenarioError, match="unknown protocol 'zab'"):
        transcribe("protocol zab\nmembers 3\n")


def test_the_transcript_is_the_same_each_time_and_rewriting_is_stable() -> None:
    text = BEGINNING + "request 1 as a\nrun 1s\ncrash 1\nrun 1s\nshow\n"
    once = transcribe(text)
    assert transcribe(text) == once
    assert transcribe(once) == once


def test_the_command_compares_and_rewrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.scenario"
    path.write_text(BEGINNING + "show\n", encoding="utf-8")
    assert main([str(path)]) == 1
    assert "+    | 1 normal primary view 0 op 0 commit 0 log []" in capsys.readouterr().out
    assert main(["--rewrite", str(path)]) == 0
    assert main([str(path)]) == 0
    path.write_text(BEGINNING + "expect primary 3\n", encoding="utf-8")
    assert main(["--rewrite", str(path)]) == 1
    assert "one.scenario:4: primary 3 expected" in capsys.readouterr().err
