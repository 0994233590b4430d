"""Expressions that CLDR (through Babel) and num2words can say in many languages: dates, amounts, units, names, numbers.

A value is drawn without any language; then each language says it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import babel
import num2words
from babel import dates, lists, numbers, units

from rlseq.build import nearest

from .sentences import SENTENCES

COUNTRIES = ("AR AT AU BE BG BR CA CH CL CN CO CZ DE DK EE EG ES FI FR GB GR HR HU IE IN IS IT JP KE KR LT LU LV MA MX "
             "NG NL NO NZ PE PL PT RO RS RU SE SI SK TH TN TR UA US UY VN ZA").split()
LANGUAGES = ("ar bg ca cs da de el en es et eu fa fi fr ga he hi hr hu id is it ja ko lt lv mt nb nl pl pt ro ru sk sl "
             "sq sr sv sw th tr uk vi zh").split()
CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "PLN", "SEK", "INR")
HOURS = (0, *range(2, 13), *range(14, 24))      # not one o'clock: Spanish has "a la 1" beside "a las 2"
SECONDS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400, "month": 30 * 86400, "year": 365 * 86400}
MOST = {"minute": 59, "hour": 23, "day": 6, "week": 10, "month": 11, "year": 50}
PROBES = 50                                     # draws that show whether a language can say a kind of expression


@dataclass(frozen=True)
class Language:
    """One side of the pair: CLDR's locale, the name num2words has for it (None: not covered), the sentences."""

    locale: babel.Locale
    spelling: str | None
    sentences: dict[str, str] | None

    @classmethod
    def of(cls, name: str) -> Language:
        """Raises ValueError for a name that CLDR does not know."""
        try:
            locale = babel.Locale.parse(name.replace("-", "_"))
        except (babel.UnknownLocaleError, ValueError, TypeError):
            known = babel.localedata.locale_identifiers()
            raise ValueError(f"task.pair: CLDR has no locale {name!r}{nearest(name, known)}; it has {len(known)}, such "
                             f"as de, en_GB, pt_BR, zh_Hans; write a pair like en-de") from None
        regional = f"{locale.language}_{locale.territory}"
        spelling = next((one for one in (regional, locale.language) if one in num2words.CONVERTER_CLASSES), None)
        return cls(locale, spelling, SENTENCES.get(locale.language))


@dataclass(frozen=True)
class Kind:
    """A kind of expression: draws a value, and says it in a language in one of several styles."""

    draw: Callable[[Random], tuple]
    say: Callable[[tuple, str, Language], str]
    styles: tuple[str, ...] = ("",)


def _count(random: Random) -> int:
    return random.randrange(1, 10 ** random.randint(1, 3))


def _measure(*names: str, fraction: bool = True) -> Kind:
    """Numbers with one of CLDR's units, such as "12.5 kilograms"."""
    def draw(random: Random) -> tuple:
        tenths = fraction and random.random() < 0.3
        return _count(random) if tenths else 10 * _count(random), random.choice(names)      # in tenths

    def say(value: tuple, style: str, language: Language) -> str:
        return unit(value[0] // 10 if value[0] % 10 == 0 else value[0] / 10, value[1], language)
    return Kind(draw, say)


def _ago(sign: int) -> Kind:
    def draw(random: Random) -> tuple:
        name = random.choice(tuple(SECONDS))
        return random.randint(1, MOST[name]), name

    def say(value: tuple, style: str, language: Language) -> str:
        seconds = sign * value[0] * SECONDS[value[1]]
        return dates.format_timedelta(seconds, granularity=value[1], threshold=1e9, add_direction=True,
                                      locale=language.locale)
    return Kind(draw, say)


def _names(codes: list[str], table: str) -> Kind:
    def say(value: tuple, style: str, language: Language) -> str:
        return enumeration([getattr(language.locale, table)[one] for one in value], language)
    return Kind(lambda random: tuple(random.sample(codes, random.randint(2, 4))), say)


def _quantities() -> Kind:
    parts = (KINDS["mass"], KINDS["volume"], KINDS["length"])

    def draw(random: Random) -> tuple:
        chosen = random.sample(range(len(parts)), random.randint(2, 3))
        return tuple((index, parts[index].draw(random)) for index in chosen)

    def say(value: tuple, style: str, language: Language) -> str:
        return enumeration([parts[index].say(one, style, language) for index, one in value], language)
    return Kind(draw, say)


def _money(random: Random) -> tuple:
    currency = random.choice(CURRENCIES)
    return (_count(random), currency) if currency == "JPY" else (random.randrange(1, 10**5) / 100, currency)


def _say_money(value: tuple, style: str, language: Language) -> str:
    return numbers.format_currency(value[0], value[1], locale=language.locale, format_type=style)


def _duration(random: Random) -> tuple:
    if random.random() < 0.4:
        return ("hour", random.randint(1, 23)), ("minute", random.randint(1, 59))
    name = random.choice(tuple(SECONDS))
    return ((name, random.randint(1, MOST[name])),)


def _say_duration(value: tuple, style: str, language: Language) -> str:
    return enumeration([unit(number, f"duration-{name}", language) for name, number in value], language)


def enumeration(parts: list[str], language: Language) -> str:
    """CLDR's list, "a, b, and c"; with the Spanish "e" before i- and hi-, which a pattern cannot say."""
    text = lists.format_list(parts, "standard", locale=language.locale)
    last = parts[-1].lower()
    if language.locale.language == "es" and last.startswith(("i", "hi")) and not last.startswith(("hia", "hie")):
        text = text.removesuffix(f" y {parts[-1]}") + f" e {parts[-1]}"
    return text


def unit(number: float, name: str, language: Language) -> str:
    """A number with a unit of CLDR, "12.5 kilograms"; LookupError where the locale has no words for it."""
    for width in ("long", "short"):                 # CLDR's long forms inherit from the short ones; Babel's do not
        text = units.format_unit(number, name, width, locale=language.locale)
        if name not in text:                        # Babel's way out: the name of the unit itself
            return text
    raise LookupError(name)


@lru_cache(maxsize=2**14)
def spelled(number: int, way: str, spelling: str | None) -> str:
    """A number in words, "cardinal" or "year"; LookupError where num2words has no such language."""
    if spelling is None:
        raise LookupError("num2words does not speak this language")
    return num2words.num2words(number, lang=spelling, to=way)


def _date(random: Random) -> tuple:
    day = datetime.date.fromordinal(random.randrange(711858, 748383))      # 1950-01-01 to 2049-12-31
    return (day.toordinal() + (day.day == 1),)      # not the first: French has "1er", which its pattern cannot say


def _say_date(value: tuple, style: str, language: Language) -> str:
    return dates.format_date(datetime.date.fromordinal(value[0]), style, locale=language.locale)


def _say_number(value: tuple, style: str, language: Language) -> str:
    if style == "words":
        return spelled(value[0], "cardinal", language.spelling)
    return numbers.format_decimal(value[0], locale=language.locale)


def _say_compact(value: tuple, style: str, language: Language) -> str:
    known = language.locale.compact_decimal_formats
    width = next(one for one in ("long", "short") if one in known)
    return numbers.format_compact_decimal(value[0], format_type=width, locale=language.locale, fraction_digits=2)


KINDS: dict[str, Kind] = {
    "date": Kind(_date, _say_date, ("long", "full")),
    "time": Kind(lambda random: (random.choice(HOURS), random.randrange(60)),
                 lambda value, style, language: dates.format_time(
                     datetime.time(*value), "short", locale=language.locale)),
    "relative": _ago(+1),
    "ago": _ago(-1),
    "duration": Kind(_duration, _say_duration),
    "money": Kind(_money, _say_money, ("name", "standard")),
    "mass": _measure("mass-kilogram", "mass-gram", "mass-pound"),
    "length": _measure("length-meter", "length-kilometer", "length-centimeter", "length-foot"),
    "volume": _measure("volume-liter", "volume-milliliter"),
    "area": _measure("area-square-meter", "area-hectare"),
    "speed": _measure("speed-kilometer-per-hour", "speed-mile-per-hour", fraction=False),
    "digital": _measure("digital-megabyte", "digital-gigabyte"),
    "temperature": Kind(lambda random: (random.randint(-40, 120), random.choice(("celsius", "fahrenheit"))),
                        lambda value, style, language: unit(value[0], f"temperature-{value[1]}", language)),
    "percent": Kind(lambda random: (random.randint(1, 100),),
                    lambda value, style, language: numbers.format_percent(value[0] / 100, locale=language.locale)),
    "number": Kind(lambda random: (random.randrange(10 ** random.randint(1, 5)),), _say_number, ("words", "figures")),
    "compact": Kind(lambda random: (random.randrange(11, 1000) * 10 ** random.choice((5, 8)),), _say_compact),
    "countries": _names(COUNTRIES, "territories"),
    "languages": _names(LANGUAGES, "languages"),
}
KINDS["quantities"] = _quantities()
# Years are read in pairs of digits where people do; num2words has that right in the languages of our sentences.
IN_SENTENCES = {"year": Kind(lambda random: (random.randrange(1100, 2000),),
                             lambda value, style, language: spelled(value[0], "year", language.spelling))}
ALL = KINDS | IN_SENTENCES
LISTS = {"countries", "languages", "quantities", "duration"}     # lists themselves, so never part of a list


def styles(kind: str, sides: Sequence[Language]) -> tuple[str, ...]:
    """Styles in which CLDR and num2words can say this kind in all of these languages."""
    return tuple(style for style in ALL[kind].styles if all(_can_say(kind, style, side) for side in sides))


def _can_say(kind: str, style: str, language: Language) -> bool:
    random = Random(kind)
    try:
        return all(ALL[kind].say(ALL[kind].draw(random), style, language) for _ in range(PROBES))
    except (LookupError, ValueError, NotImplementedError, TypeError, AttributeError, OverflowError,
            StopIteration):
        return False
