"""One spelling for every setting of a method: its default, limits, choices, unit and one line of help.

A method's settings are a frozen, keyword-only dataclass whose fields are made by `setting`. The page's controls, the
check of what arrives over the wire, the API's defaults, the record in an export and the benchmark read them from here.
Knows neither torch nor Gradio.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from pipelines.errors import UserError

SEED_LIMIT = 2**31 - 1
MOST_TEXT = 300  # characters of a line of text, where its setting says nothing else
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is known about one field of a settings class."""

    name: str
    kind: type  # of a value: bool, int, float, str, tuple (of texts), or another, such as a picture, that may be None
    default: Any
    label: str  # as the page calls it
    help: str = ""  # one line
    noun: str = ""  # as a message calls it, where the label is a question: "The rule"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    step: float | None = None  # of the slider
    slider: tuple[float, float] | None = None  # its two ends, where they are not `low` and `high`
    choices: Mapping[Any, str] | None = None  # value -> the page's name for it
    most: int = MOST_TEXT  # characters, of a text

    @property
    def ends(self) -> tuple[float, float]:
        """Of the slider."""
        assert self.low is not None and self.high is not None, f"{self.name} has no limits"
        return self.slider or (self.low, self.high)

    @property
    def name_in_messages(self) -> str:
        return self.noun or self.label

    def check(self, value: object) -> Any:
        """The value itself, if it is one.

        Raises:
            UserError: for another type, a number that is not finite or outside the limits, an unknown choice, a text
                that is too long or holds half of a character. Texts are quoted in the message and numbers are not, so
                that "2" and 2 look different.
        """
        if self.choices is not None:
            return self._chosen(value)
        if self.kind is bool:
            if not isinstance(value, bool):
                raise UserError("{name} is true or false, not {value}.", name=self.name_in_messages, value=shown(value))
            return value
        if self.kind is str:
            return self._text(value)
        if self.kind in (int, float):
            return self._number(value)
        if self.kind is tuple:
            return self._texts(value)
        if value is not None and not isinstance(value, self.kind):
            raise UserError("{name} cannot be {value}.", name=self.name_in_messages, value=shown(value))
        return value

    def _chosen(self, value: object) -> Any:
        assert self.choices is not None
        for known in self.choices:  # == alone would take True for 1 and 1.0 for 1
            if type(value) is type(known) and value == known:
                return known
        allowed = ", ".join(shown(known) for known in self.choices)
        raise UserError(
            "{name} must be one of {allowed}, not {value}.",
            name=self.name_in_messages,
            allowed=allowed,
            value=shown(value),
        )

    def _text(self, value: object) -> str:
        if value is not None and not isinstance(value, str):
            raise UserError("{name} must be text, not {value}.", name=self.name_in_messages, value=shown(value))
        text = (value or "").strip()
        if len(text) > self.most:
            raise UserError(
                "{name} is too long: {length} characters of at most {most}.",
                name=self.name_in_messages,
                length=len(text),
                most=self.most,
            )
        return self._readable(text)

    def _readable(self, text: str) -> str:
        """A text that can be written down: JSON can carry half of a surrogate pair, which is no character."""
        half = next((place for place, each in enumerate(text) if "\ud800" <= each <= "\udfff"), None)
        if half is not None:
            raise UserError(
                "{name} holds half of a character, at place {place}. Type it again instead of pasting it.",
                name=self.name_in_messages,
                place=half + 1,
            )
        return text

    def _texts(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
            raise UserError(
                "{name} must be a list of words, not {value}.", name=self.name_in_messages, value=shown(value)
            )
        return tuple(map(self._readable, value))

    def _number(self, value: object) -> Any:
        low, high = self.low, self.high
        assert low is not None and high is not None, f"{self.name} has no limits"
        real = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high  # NaN is false
        if not real:
            raise UserError(
                "{name} must be a number from {low} to {high}, not {value}.",
                name=self.name_in_messages,
                low=f"{low:g}",
                high=f"{high:g}",
                value=shown(value),
            )
        if self.kind is int:
            if value != int(value):  # type: ignore[call-overload]
                raise UserError(
                    "{name} must be a whole number, not {value}.", name=self.name_in_messages, value=shown(value)
                )
            return int(value)  # type: ignore[call-overload]
        return value


def shown(value: object) -> str:
    """A value as a message quotes it: texts in quotes, nothing longer than 40 characters."""
    return repr(value[:40]) if isinstance(value, str) else str(value)[:40]


def setting(default: Any, label: str, help: str = "", **known: Any) -> Any:
    """A field of a settings class: `ratio: float = setting(0.5, "Keep ratio", low=0.05, high=1, step=0.05)`."""
    return field(default=default, metadata={"label": label, "help": help, **known})


class Checked:
    """A settings class whose values are held against their settings wherever it is made."""

    def __post_init__(self) -> None:
        for name, known in settings_of(type(self)).items():
            object.__setattr__(self, name, known.check(getattr(self, name)))


def settings_of(kind: type) -> dict[str, Setting]:
    """Every setting of a settings class, by name, in order."""
    found = {}
    for each in fields(kind):
        if "label" in each.metadata:
            assert each.default is not MISSING, f"{each.name} has no default"
            known = {"kind": type(each.default), **each.metadata}
            found[each.name] = Setting(name=each.name, default=each.default, **known)
    return found


def checked(kind: type[T], values: Mapping[str, object] | Sequence[object]) -> T:
    """An instance of a settings class from values that arrived over the wire, by name or in the fields' order.

    Raises:
        UserError: for an unknown name or a value that its setting refuses.
    """
    known = settings_of(kind)
    if not isinstance(values, Mapping):
        values = dict(zip(known, values, strict=True))
    for name in values:
        if name not in known:
            raise UserError("There is no setting {name}. Known: {known}.", name=shown(name), known=", ".join(known))
    return kind(**{name: known[name].check(value) for name, value in values.items()})
