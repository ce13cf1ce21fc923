"""Kinds of values: the values of each, how people type them, and how pages show them. Standard library only.

A new kind is one subclass of `Kind` with a `name`, defined in this file or in any other that is imported. Recipes,
knobs, forms, API, command line and pages get everything from the class; no other place lists the kinds.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, ClassVar

from steersman.marked_text import MarkedText, gettext_noop
from steersman.values import as_text, clean, shown

if TYPE_CHECKING:
    from steersman.spec import ValueSpec

Value = float | int | bool | str

# Larger whole numbers are not exact in JSON as browsers parse it.
LARGEST_INT = 2**53
LONGEST_TEXT = 2000
LONGEST_CHOICE = 200
MOST_CHOICES = 200
# The part of the choices that a sentence lists.
CHOICES_TOLD = 20
CHOICE_CHARACTERS_TOLD = 40
YES = frozenset({"true", "yes", "on", "1"})
NO = frozenset({"false", "no", "off", "0"})
# The form of a typed number; static/js/knobs/scale.js uses the same.
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
NO_FINITE_NUMBER = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.ASCII | re.IGNORECASE)

KINDS: dict[str, Kind] = {}


class SpecError(ValueError):
    """A value that a spec does not accept, or a declaration that contradicts itself.

    `said` is the message with the remedy; `name` is the parameter or knob.
    """

    def __init__(self, said: MarkedText | str, name: str = "") -> None:
        self.said = said if isinstance(said, MarkedText) else MarkedText(said)
        super().__init__(str(self.said))
        self.name = name


class Kind(ABC):
    """The kind of a spec's values. A subclass with a `name` is registered when it is defined."""

    name: ClassVar[str] = ""
    # A default of this type has this kind if the declaration does not set one.
    python_type: ClassVar[type | None] = None
    # The control on forms and pages: number, checkbox, select or text. A page without it shows a text field.
    input: ClassVar[str] = "text"
    # The distance of neighbouring numbers; None for real numbers.
    step: ClassVar[int | None] = None
    # Whether values can be multiplied by a factor, and are on a linear or logarithmic scale.
    is_number: ClassVar[bool] = False
    # Whether minimum and maximum, or choices, are allowed.
    has_limits: ClassVar[bool] = False
    has_choices: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            return  # a common base of several kinds
        known = KINDS.get(cls.name)
        if known is not None and type(known).__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__qualname__}: {type(known).__qualname__} already defines the kind {cls.name!r}")
        of_type = [kind for kind in KINDS.values() if cls.python_type is not None and kind is not known]
        if taken := next((kind.name for kind in of_type if kind.python_type is cls.python_type), ""):
            raise TypeError(f"{cls.__qualname__}: the kind {taken!r} already has this type: leave out python_type")
        KINDS[cls.name] = cls()

    @abstractmethod
    def takes(self, spec: ValueSpec) -> MarkedText:
        """Return a description of the values of a spec of this kind, such as "a whole number from 1 to 100"."""

    @abstractmethod
    def check(self, spec: ValueSpec, value: object) -> Value:
        """Return a plain value in this kind's type. Raises `SpecError`, made by `refusal`, for any other value."""

    def parse(self, spec: ValueSpec, text: str) -> Value:
        """Return the value of a typed text. Raises `SpecError`."""
        return self.check(spec, text)

    def text(self, value: Value) -> str:
        """Return a value as a person would type it."""
        return number_text(value)

    def hint(self, spec: ValueSpec) -> MarkedText:
        """Return the short hint beside a field of a form; empty if the field needs none."""
        return MarkedText("")

    def scaled(self, value: Value, factor: float) -> float:
        """Return a number times `factor`, or the nearest valid one."""
        return float(value) * factor

    def check_declaration(self, spec: ValueSpec) -> None:
        """Raise `SpecError` for a spec that contradicts itself."""
        if spec.choices and not self.has_choices:
            raise SpecError(f"{spec.name}: the kind {self.name} does not allow choices", spec.name)
        limits = [limit for limit in (spec.minimum, spec.maximum) if limit is not None]
        if not all(map(_is_finite_number, limits)):
            wrong = next(limit for limit in limits if not _is_finite_number(limit))
            raise SpecError(f"{spec.name}: give finite limits, not {shown(wrong)}", spec.name)
        if limits and not self.has_limits:
            raise SpecError(f"{spec.name}: the kind {self.name} does not allow a minimum or a maximum", spec.name)
        if spec.minimum is not None and spec.maximum is not None and spec.minimum > spec.maximum:
            raise SpecError(f"{spec.name}: the minimum is above the maximum", spec.name)
        if spec.scale == "log" and not self.is_number:
            raise SpecError(f"{spec.name}: only numbers can have a logarithmic scale", spec.name)
        if spec.scale == "log" and not (spec.minimum is not None and spec.minimum > 0):
            raise SpecError(f"{spec.name}: a logarithmic scale needs a minimum above 0", spec.name)

    def refusal(self, spec: ValueSpec, value: object, allowed: MarkedText | None = None) -> SpecError:
        """Return the error with the spec, its valid values, and the refused value."""
        places = {"name": spec.name, "allowed": allowed or self.takes(spec), "value": quoted(value)}
        return SpecError(MarkedText(gettext_noop("%(name)s takes %(allowed)s, not %(value)s."), places), spec.name)


class Number(Kind):
    """The base of kinds of numbers. `words` describe its values without limits, with both, and with one."""

    input = "number"
    is_number = True
    has_limits = True
    words: ClassVar[tuple[str, str, str, str]]

    def __init_subclass__(cls) -> None:
        # Checked before the class is registered.
        if cls.input == "number" and cls.parse is not Number.parse:
            raise TypeError(
                f"{cls.__qualname__}: a kind with its own parse() cannot use the number field of the page: set input "
                "to text"
            )
        super().__init_subclass__()

    def takes(self, spec: ValueSpec) -> MarkedText:
        return self._in_words(spec.minimum, spec.maximum)

    def hint(self, spec: ValueSpec) -> MarkedText:
        patterns = (
            "",
            gettext_noop("%(minimum)s to %(maximum)s"),
            gettext_noop("at least %(minimum)s"),
            gettext_noop("at most %(maximum)s"),
        )
        return _with_limits(patterns, spec.minimum, spec.maximum)

    def parse(self, spec: ValueSpec, text: str) -> Value:
        number = number_from(text)
        return self.check(spec, text if number is None else number)

    def _in_words(self, minimum: float | None, maximum: float | None) -> MarkedText:
        return _with_limits(self.words, minimum, maximum)

    def _check_limits(self, spec: ValueSpec, number: float) -> None:
        below = spec.minimum is not None and number < spec.minimum
        above = spec.maximum is not None and number > spec.maximum
        if below or above:
            raise self.refusal(spec, number)


class Float(Number):
    """Any finite number."""

    name = "float"
    python_type = float
    words = (
        gettext_noop("a finite number"),
        gettext_noop("a number from %(minimum)s to %(maximum)s"),
        gettext_noop("a number of at least %(minimum)s"),
        gettext_noop("a number of at most %(maximum)s"),
    )

    def check(self, spec: ValueSpec, value: object) -> float:
        if not _is_finite_number(value):
            raise self.refusal(spec, value)
        number = float(value)  # type: ignore[arg-type]
        self._check_limits(spec, number)
        return number


class Int(Number):
    """A whole number in any notation: 1000, 1000.0 and 1e3 are the same."""

    name = "int"
    python_type = int
    step = 1
    words = (
        gettext_noop("a whole number"),
        gettext_noop("a whole number from %(minimum)s to %(maximum)s"),
        gettext_noop("a whole number of at least %(minimum)s"),
        gettext_noop("a whole number of at most %(maximum)s"),
    )

    def check(self, spec: ValueSpec, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.refusal(spec, value)
        if isinstance(value, float) and not value.is_integer():  # this includes NaN and infinities
            raise self.refusal(spec, value)
        number = int(value)
        self._check_limits(spec, number)
        if abs(number) > LARGEST_INT:
            low = -LARGEST_INT if spec.minimum is None else spec.minimum
            high = LARGEST_INT if spec.maximum is None else spec.maximum
            raise self.refusal(spec, number, self._in_words(low, high))
        return number

    def scaled(self, value: Value, factor: float) -> float:
        product = float(value) * factor
        return round(product) if math.isfinite(product) else product

    def check_declaration(self, spec: ValueSpec) -> None:
        super().check_declaration(spec)
        if any(limit is not None and abs(limit) > LARGEST_INT for limit in (spec.minimum, spec.maximum)):
            raise SpecError(f"{spec.name}: give limits from -2**53 to 2**53", spec.name)


class Bool(Kind):
    """True or false."""

    name = "bool"
    python_type = bool
    input = "checkbox"

    def takes(self, spec: ValueSpec) -> MarkedText:
        return MarkedText(gettext_noop("true or false"))

    def check(self, spec: ValueSpec, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.refusal(spec, value)
        return value

    def parse(self, spec: ValueSpec, text: str) -> bool:
        typed = text.strip().lower()
        if typed not in YES | NO:
            raise self.refusal(spec, text)
        return typed in YES


class Str(Kind):
    """Text. Limits apply to its length in characters."""

    name = "str"
    python_type = str
    has_limits = True

    def takes(self, spec: ValueSpec) -> MarkedText:
        least, most = self._length(spec)
        if least > 0:
            pattern = gettext_noop("text of %(minimum)s to %(maximum)s characters")
            return MarkedText(pattern, {"minimum": number_text(least), "maximum": number_text(most)})
        return MarkedText(gettext_noop("text of at most %(maximum)s characters"), {"maximum": number_text(most)})

    def hint(self, spec: ValueSpec) -> MarkedText:
        return MarkedText("") if spec.minimum is spec.maximum is None else self.takes(spec)

    def check(self, spec: ValueSpec, value: object) -> str:
        if not isinstance(value, str):
            raise self.refusal(spec, value)
        text = str.__str__(value)  # the text of an enumeration
        if clean(text) != text:
            pattern = gettext_noop("%(name)s contains an invalid character: remove it.")
            raise SpecError(MarkedText(pattern, {"name": spec.name}), spec.name)
        least, most = self._length(spec)
        if not least <= len(text) <= most:
            raise self.refusal(spec, text)
        return text

    def text(self, value: Value) -> str:
        return str(value)

    def _length(self, spec: ValueSpec) -> tuple[float, float]:
        return spec.minimum or 0, LONGEST_TEXT if spec.maximum is None else min(spec.maximum, LONGEST_TEXT)


class Choice(Kind):
    """One of several values of any types."""

    name = "choice"
    input = "select"
    has_choices = True

    def takes(self, spec: ValueSpec) -> MarkedText:
        named = [as_text(choice_text(choice), CHOICE_CHARACTERS_TOLD) for choice in spec.choices[:CHOICES_TOLD]]
        named += ["…"] if len(spec.choices) > CHOICES_TOLD else []
        return MarkedText(gettext_noop("one of %(choices)s"), {"choices": ", ".join(named)})

    def check(self, spec: ValueSpec, value: object) -> Value:
        for choice in spec.choices:
            if _is_same(choice, value):
                return choice
        raise self.refusal(spec, value)

    def parse(self, spec: ValueSpec, text: str) -> Value:
        for typed in (text, text.strip()):
            for choice in spec.choices:
                if choice_text(choice) == typed:
                    return choice
        # Another notation of the same value, such as 1e-3 or yes.
        number, truth = number_from(text), text.strip().lower()
        for choice in spec.choices:
            if number is not None and _is_same(choice, number):
                return choice
            if isinstance(choice, bool) and truth in (YES if choice else NO):
                return choice
        raise self.refusal(spec, text)

    def text(self, value: Value) -> str:
        return choice_text(value)

    def check_declaration(self, spec: ValueSpec) -> None:
        super().check_declaration(spec)
        if not spec.choices:
            raise SpecError(f"{spec.name}: the kind choice needs a list of choices", spec.name)
        if not all(isinstance(choice, (float, int, bool, str)) for choice in spec.choices):
            raise SpecError(f"{spec.name}: choices are numbers, truth values or text", spec.name)
        if len(spec.choices) > MOST_CHOICES or not all(map(_is_small, spec.choices)):
            raise SpecError(
                f"{spec.name}: give at most {MOST_CHOICES} choices (finite numbers from -2**53 to 2**53, or text of at "
                f"most {LONGEST_CHOICE} characters)",
                spec.name,
            )
        by_text: dict[str, Value] = {}
        for choice in spec.choices:
            if not _is_same(by_text.setdefault(choice_text(choice), choice), choice):
                raise SpecError(f"{spec.name}: two choices look the same: {shown(choice_text(choice))}", spec.name)


class AnyValue(Kind):
    """Any value, for a kind that this process does not know. The training that declares it checks the value."""

    name = "any"

    def takes(self, spec: ValueSpec) -> MarkedText:
        return MarkedText(gettext_noop("a value"))

    def check(self, spec: ValueSpec, value: object) -> Value:
        if isinstance(value, (bool, int, float, str)):
            return value
        raise self.refusal(spec, value)

    def text(self, value: Value) -> str:
        return choice_text(value)


def number_from(text: str) -> int | float | None:
    """Return the number in a text, exactly if it is whole; None if there is none."""
    text = text.strip()
    if NO_FINITE_NUMBER.fullmatch(text):
        return float(text)
    if not NUMBER.fullmatch(text):
        return None
    try:
        exact = Decimal(text)
    except InvalidOperation:  # its exponent is too large
        return float(text)
    if exact.adjusted() <= 30 and exact == exact.to_integral_value():
        return int(exact)
    return float(text)


def number_text(value: object) -> str:
    """Return a number or truth value as a page writes it: 0.000001, 1e-7, 1, true."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) < 10**21:
        return str(int(value))
    if isinstance(value, float) and math.isfinite(value):
        if value == 0 or 1e-6 <= abs(value) < 1e21:
            fixed = format(Decimal(repr(float(value))), "f")
            return fixed.rstrip("0").rstrip(".") if "." in fixed else fixed
        return re.sub(r"e([+-])0+", r"e\1", repr(float(value)))
    return shown(value)


def choice_text(value: object) -> str:
    """Return a value of any kind as a person would type it."""
    return str.__str__(value) if isinstance(value, str) else number_text(value)


def quoted(value: object) -> str:
    """Return any value in the notation of a sentence: text in quotes."""
    return shown(str.__str__(value)) if isinstance(value, str) else number_text(value)


def _with_limits(patterns: tuple[str, str, str, str], minimum: float | None, maximum: float | None) -> MarkedText:
    """Return the pattern for no limit, both, only a minimum or only a maximum, with the limits filled in."""
    free, both, least, most = patterns
    if minimum is None:
        return MarkedText(free) if maximum is None else MarkedText(most, {"maximum": number_text(maximum)})
    if maximum is None:
        return MarkedText(least, {"minimum": number_text(minimum)})
    return MarkedText(both, {"minimum": number_text(minimum), "maximum": number_text(maximum)})


def _is_finite_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    except OverflowError:
        return False


def _is_same(choice: Value, value: object) -> bool:
    """Return whether a value is a choice: True is not 1, and text is not a number."""
    if isinstance(choice, bool) or isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return choice is value
    return choice == value


def _is_small(choice: Value) -> bool:
    if isinstance(choice, str):
        return len(choice) <= LONGEST_CHOICE and clean(choice) == choice
    return math.isfinite(choice) if isinstance(choice, float) else abs(choice) <= LARGEST_INT
