"""Every number, time, text, list and mapping of every contract has an upper bound that holds."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple, cast

import pytest
from pydantic import TypeAdapter, ValidationError

from shared.contracts import CONTRACTS, Contract, encode, fields
from shared.contracts.attachment import MAX_CONTENT_ID_CHARS, MAX_NAME_BYTES, Attachment
from shared.contracts.fields import (
    END_OF_TIME,
    MAX_IP_CHARS,
    Domain,
    Id,
    IpAddress,
    Locale,
    Mailbox,
    Purpose,
)
from tests.shared.golden.examples import EXAMPLES

Schema = Mapping[str, Any]
Path = tuple[str | int, ...]

BOUNDS = ("maxLength", "maximum", "maxItems", "maxProperties", "formatExclusiveMaximum")
LIMITS = {
    "string": "maxLength",
    "integer": "maximum",
    "number": "maximum",
    "array": "maxItems",
}
SCHEMAS = {each: cast("Schema", each.model_json_schema()) for each in CONTRACTS}
# Pydantic's names for a value beyond a bound, and for one that a check of ours refuses.
BEYOND = {"string_too_long", "too_long", "less_than_equal", "less_than"}
OURS = {"value_error"}


class Place(NamedTuple):
    """A value in the example of a contract, and the schema of that value."""

    contract: type[Contract]
    path: Path
    schema: Schema

    def __str__(self) -> str:
        """Name the case."""
        return ".".join((self.contract.__name__, *map(str, self.path)))


def resolved(schema: Schema, root: Schema) -> Schema:
    """Follow a reference."""
    name = schema.get("$ref")
    return root["$defs"][name.rpartition("/")[2]] if name else schema


def unbounded(schema: Schema, root: Schema, path: str = "") -> Iterator[str]:
    """Name the places of a schema that have no upper bound."""
    schema = resolved(schema, root)
    for each in schema.get("anyOf", ()):
        yield from unbounded(each, root, path)
    for name, each in schema.get("properties", {}).items():
        yield from unbounded(each, root, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if schema.get(name, True) is not True:
            yield from unbounded(schema[name], root, f"{path}[]")
    if not is_bounded(schema):
        yield path


def is_bounded(schema: Schema) -> bool:
    """Return whether a schema, but for what is inside, has an upper bound."""
    match schema:
        case {"enum": _} | {"const": _} | {"anyOf": _} | {"properties": _}:
            return True
        case {"additionalProperties": True}:
            return True  # any JSON: the size of the whole message bounds it
        case {"format": "ipv4" | "ipv6" | "date"} | {"type": "null" | "boolean"}:
            return True
        case {"format": "date-time"}:
            return "formatExclusiveMaximum" in schema
        case {"type": "object"}:
            return "maxProperties" in schema and "maxLength" in schema["propertyNames"]
    return LIMITS.get(schema.get("type", "")) in schema


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_nothing_is_without_a_bound(contract: type[Contract]) -> None:
    """A new field cannot forget its bound, and the schemas in docs/ say all of them."""
    assert list(unbounded(SCHEMAS[contract], SCHEMAS[contract])) == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": "integer", "minimum": 0},
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "format": "date-time"},
        {"type": "array", "items": {"type": "null"}},
        {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        {"type": "object", "propertyNames": {"maxLength": 1}, "additionalProperties": {}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
        {"description": "anything"},
    ],
    ids=str,
)
def test_the_search_finds_what_has_none(schema: Schema) -> None:
    """The rule above bites."""
    assert list(unbounded(schema, schema))


def places(contract: type[Contract], schema: Schema, value: object, path: Path) -> Iterator[Place]:
    """Yield the places with a bound in an example's value."""
    root = SCHEMAS[contract]
    schema = resolved(schema, root)
    if "anyOf" in schema:
        found = [each for each in schema["anyOf"] if fits(resolved(each, root), value)]
        schema = resolved(found[0], root)
    if any(name in schema for name in BOUNDS):
        yield Place(contract, path, schema)
    if isinstance(value, list):
        yield from places(contract, schema["items"], value[0], (*path, 0))
    elif isinstance(value, dict):
        for name, each in value.items():
            inner = schema["properties"][name] if "properties" in schema else None
            inner = inner or schema["additionalProperties"]
            if inner is not True:
                yield from places(contract, inner, each, (*path, name))


def fits(schema: Schema, value: object) -> bool:
    """Return whether a schema is the one of a value among several."""
    kinds: Mapping[str, Any] = {
        "boolean": bool,
        "string": str,
        "array": list,
        "object": dict,
        "integer": int,
        "number": (int, float),
    }
    return isinstance(value, kinds.get(schema.get("type", "string"), ()))


def example(contract: type[Contract]) -> Any:  # noqa: ANN401 -- JSON
    """Return the JSON of a contract's example."""
    return json.loads(encode(next(each for each in EXAMPLES if type(each) is contract)))


PLACES = [place for each in CONTRACTS for place in places(each, SCHEMAS[each], example(each), ())]


def grown(place: Place, old: Any, beyond: int) -> object:  # noqa: ANN401 -- JSON
    """Return a value of the size of the bound, and so much more."""
    schema = place.schema
    match old:
        case str() if "formatExclusiveMaximum" in schema:
            return (END_OF_TIME - timedelta(seconds=1 - beyond)).isoformat()
        case str():
            return "a" * (schema["maxLength"] + beyond)
        case int() | float():
            return schema["maximum"] + beyond
        case list():
            return [old[0]] * (schema["maxItems"] + beyond)
        case _:
            value = next(iter(old.values()), 0)
            return {f"X-{each}": value for each in range(schema["maxProperties"] + beyond)}


def errors(place: Place, beyond: int) -> set[str]:
    """Return the kinds of mistakes at a place whose value is at its bound, or beyond."""
    wire = example(place.contract)
    at, last = wire, place.path[-1]
    for part in place.path[:-1]:
        at = at[part]
    at[last] = grown(place, at[last], beyond)
    try:
        place.contract.model_validate_json(json.dumps(wire))
    except ValidationError as error:
        # A text that stands for a list of one has its mistakes at item 0.
        named = {place.path, (*place.path, 0)}
        return {each["type"] for each in error.errors() if each["loc"] in named}
    return set()


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_what_lies_just_beyond_a_bound_is_refused(place: Place) -> None:
    """No body can hold what a database cannot, or what takes for ever (issue 10, A2 and A3)."""
    mapping = OURS if "maxProperties" in place.schema else set()

    assert errors(place, 1) & (BEYOND | mapping)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_the_bound_itself_is_within(place: Place) -> None:
    """At its bound a value is not refused for its size."""
    assert not errors(place, 0) & BEYOND


@pytest.mark.parametrize(
    ("kind", "longest"),
    [
        (Id, "x" * 100),
        (Purpose, "a" * 32),
        (Locale, "en-abcdefgh-abcdefgh-abcdefgh-abcde"),
        (Domain, ".".join(["a" * 63] * 3 + ["b" * 61])),
        (Mailbox, '"' + '\\"' * 200 + f'" <{"a" * 64}@{".".join(["b" * 62] * 3)}>'),
        (IpAddress, "0000:0000:0000:0000:0000:ffff:255.255.255.255"),
    ],
    ids=["id", "purpose", "locale", "domain", "mailbox", "ip"],
)
def test_the_longest_of_its_kind_is_taken(
    kind: Any,  # noqa: ANN401 -- a type as pydantic takes it
    longest: str,
) -> None:
    """A bound is no shorter than what the form allows, also when it is read a second time."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    once = adapter.validate_json(json.dumps(longest))

    assert adapter.validate_json(adapter.dump_json(once)) == once


@pytest.mark.parametrize("wrong", ["1" * (MAX_IP_CHARS + 1), "fe80::1%eth0", "fe80::1%" + "a" * 99])
def test_an_ip_address_has_no_zone(wrong: str) -> None:
    """A zone is of any length, and means something on its own host alone (RFC 4007 11.2)."""
    with pytest.raises(ValidationError, match="must be an IPv4 or IPv6 address"):
        TypeAdapter(IpAddress).validate_python(wrong)


def test_a_mapping_is_refused_by_its_length_alone() -> None:
    """A million wrong entries are one mistake."""
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[dict[str, int], fields.at_most(3)])

    with pytest.raises(ValidationError, match="at most 3 entries") as caught:
        adapter.validate_python(dict.fromkeys("abcd", "wrong"))
    assert caught.value.error_count() == 1


def test_the_longest_file_name_is_taken() -> None:
    """Of a file the name and the content id reach their bounds."""
    content_id = "a" * 100 + "@" + "b" * 100
    file = Attachment(filename="n" * MAX_NAME_BYTES, content="", content_id=content_id)

    assert (len(file.filename), len(content_id)) == (MAX_NAME_BYTES, MAX_CONTENT_ID_CHARS)


def test_the_last_moment() -> None:
    """The last moment has a year of four digits in every zone."""
    last = END_OF_TIME - timedelta(microseconds=1)

    assert last.astimezone(UTC) + timedelta(hours=24) < datetime.max.replace(tzinfo=UTC)
