"""How an error that a command raises may be written, and what is said of one that would not come to its caller."""

from __future__ import annotations

import logging
from dataclasses import InitVar, field
from types import SimpleNamespace
from typing import Self

import pytest

from statemachine import CommandError, DefinitionError, Failed, Raised, StateMachine, command
from statemachine.outcome import unwrap
from tests.statemachine.driving import Driver

elsewhere = SimpleNamespace()


def test_an_error_with_an_init_that_takes_no_fields_is_refused_where_it_is_defined() -> None:
    with pytest.raises(
        DefinitionError, match=r"its fields, of which it declares none: .*'key'\. Declare what it carries"
    ):

        class NotFoundError(CommandError):
            def __init__(self, key: str) -> None:
                self.key = key

    with pytest.raises(DefinitionError, match=r"its fields \(key\): missing a required argument: 'text'"):

        class ExplainedError(CommandError):
            key: str

            def __init__(self, text: str, key: str) -> None:
                self.key = key

    said_by_311, said_by_313 = (
        "'key' parameter is positional only",
        "missing a required positional-only argument: 'key'",
    )
    with pytest.raises(DefinitionError, match=f"{said_by_311}|{said_by_313}"):

        class PositionalError(CommandError):
            key: str

            def __init__(self, key: str, /) -> None:
                self.key = key


def test_an_error_with_fields_that_it_cannot_be_made_of_is_refused() -> None:
    with pytest.raises(DefinitionError, match="unexpected keyword argument 'key'"):

        class FilledError(CommandError):
            key: str = field(init=False, default="")

    with pytest.raises(DefinitionError, match="missing a required argument: 'raw'"):

        class CookedError(CommandError):
            raw: InitVar[int]

    with pytest.raises(DefinitionError, match=r"unexpected keyword argument 'key'|'text'"):

        class MadeError(CommandError):
            key: str

            def __new__(cls, text: str) -> Self:
                return super().__new__(cls, text)


@pytest.mark.parametrize("name", ["add_note", "args", "with_traceback"])
def test_a_field_is_not_named_as_something_that_every_exception_has(name: str) -> None:
    """Text in `args` would arrive as a list of its letters."""
    with pytest.raises(DefinitionError, match=rf"TakenError\.{name}: every exception has"):
        type("TakenError", (CommandError,), {"__annotations__": {name: str}})


def test_an_init_that_takes_the_fields_is_none_to_complain_of() -> None:
    class Machine(StateMachine):
        class OwnError(CommandError):
            key: str
            tries: int = 1

            def __init__(self, key: str, tries: int = 1, *, told: bool = False) -> None:
                self.key, self.tries, self.told = key.lower(), tries, told

        class ColourError(CommandError):
            shades: list[str] = field(default_factory=list)

        class LooseError(CommandError):
            def __init__(self, *values: object, **options: object) -> None:
                pass

    with pytest.raises(Machine.OwnError, match="key='a', tries=2"):
        unwrap(Raised("OwnError", {"key": "A", "tries": 2}), Machine)
    with pytest.raises(Machine.ColourError):
        unwrap(Raised("ColourError", {"shades": ["red"]}), Machine)


def test_an_error_that_callers_do_not_know_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Machine(StateMachine):
        @command
        def look(self) -> None:
            raise elsewhere.HiddenError

        @command
        def act(self) -> None:
            raise Machine.NearError

        class NearError(CommandError):
            pass

    class HiddenError(CommandError):
        pass

    elsewhere.HiddenError = HiddenError
    driver = Driver(Machine())
    for _ in range(2):
        assert driver.entry(Machine.look.bind()) == Raised("HiddenError", {})
        assert driver.entry(Machine.act.bind()) == Raised("NearError", {})
    (told,) = caplog.records
    assert told.levelno == logging.WARNING
    assert "look raised HiddenError, which callers get as RemoteCommandError" in told.getMessage()
    assert "list it in Machine.errors" in told.getMessage()


def test_an_error_with_the_name_of_another_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Callers would get the other one, or a RemoteCommandError where the fields differ."""

    class Machine(StateMachine):
        class TwiceError(CommandError):
            pass

        @command
        def go(self) -> None:
            raise elsewhere.TwiceError

    class TwiceError(CommandError):
        pass

    elsewhere.TwiceError = TwiceError
    Driver(Machine()).entry(Machine.go.bind())
    (told,) = caplog.records
    assert told.getMessage().count(f"{__name__}.") == 2
    assert "rename one of them" in told.getMessage()


def test_why_fields_cannot_travel_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Machine(StateMachine):
        class ForgetfulError(CommandError):
            key: str

            def __init__(self, key: str) -> None:
                pass

        class LongError(CommandError):
            text: str

        @command
        def forget(self) -> None:
            raise Machine.ForgetfulError("a")

        @command
        def tell(self) -> None:
            raise Machine.LongError("a" * (2 << 20))

    driver = Driver(Machine())
    assert driver.entry(Machine.forget.bind()) == Failed("ForgetfulError")
    assert driver.entry(Machine.tell.bind()) == Failed("LongError")
    assert "a field was never set: 'ForgetfulError' object has no attribute 'key'" in caplog.text
    assert "its fields take 20" in caplog.text
