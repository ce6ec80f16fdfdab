"""Checking what people wrote against a pydantic model, with every problem named at once."""

from __future__ import annotations

import difflib
import json
import typing
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from lorareg.errors import InvalidFileError, listed

EXPLAINED = 2000  # problems of a file; to name a million takes minutes and helps nobody


class Later:
    """Marks a key that an earlier version did not have.

    While it has its default it is not written out: what was trained and locked before it existed
    keeps its digest.
    """


class Strict(BaseModel):
    """A frozen block of a file: unknown keys are errors, not surprises."""

    # defer_build: a block's validator is built when the first file with it is read, since building
    # those of all blocks takes longer than reading a file.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @model_serializer(mode="wrap")
    def _without_what_came_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = dump(self)
        for name, field in type(self).model_fields.items():
            is_later = any(isinstance(mark, Later) for mark in field.metadata)
            if is_later and getattr(self, name) == field.default:
                found.pop(name, None)
        return found


Model = TypeVar("Model", bound=Strict)


def check(model: type[Model], document: Any, name: str, *, fix: str = "") -> Model:
    """Return ``document`` as ``model``, by the strict rules of JSON: ``true`` is no number.

    Args:
        model: the block at the top of the file.
        document: what a YAML or JSON file holds.
        name: what errors call the file.
        fix: what to do about a wrong one; by default, to edit it.

    Raises:
        InvalidFileError: lists every wrong key and value.
    """
    try:
        return model.model_validate_json(json.dumps(document, default=str), strict=True)
    except ValidationError as error:
        if (count := error.error_count()) > EXPLAINED:
            raise InvalidFileError(
                f"{name} has {count} problems", why="it is another file", fix=fix or f"edit {name}"
            ) from None
        problems = _problems(model, error)
        raise InvalidFileError(
            f"{name} has {len(problems)} problem{'s' if len(problems) > 1 else ''}",
            why="\n" + listed(problems, limit=100),
            fix=fix or f"edit {name}",
        ) from error
    except RecursionError as error:
        raise InvalidFileError(f"{name} is nested too deeply", fix=fix) from error


def _problems(model: type[Strict], error: ValidationError) -> list[str]:
    """One sentence a place; what the alternatives for one value say is joined."""
    found: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for detail in error.errors():
        path = _path(detail)
        where = ".".join(str(part) for part in path) or "file"
        found.setdefault(where, []).append(_message(model, path, detail))
        shown = repr(detail["input"])
        if detail["type"] not in ("missing", "extra_forbidden") and len(shown) < 80:
            values[where] = f" (found {shown})"
    return [
        f"{where}: {', or '.join(messages)}{values.get(where, '')}"
        for where, messages in found.items()
    ]


def _path(detail: Any) -> list[str | int]:
    """Keys that lead to the value, without pydantic's names for alternatives (``tuple[str]``)."""
    *parents, last = detail["loc"] or ("",)
    is_key = detail["type"] == "extra_forbidden" or "[" not in str(last)
    return [p for p in parents if "[" not in str(p)] + ([last] if last != "" and is_key else [])


def _message(model: type[Strict], path: list[str | int], detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key; {_hint(model, path)}"
        case "missing":
            return "missing"
        case "string_pattern_mismatch":
            pattern = detail["ctx"]["pattern"]
            return f"expected {_described(model.model_json_schema(), pattern) or pattern}"
        case _:
            message = str(detail["msg"]).removeprefix("Value error, ")
            return f"{message[:1].lower()}{message[1:]}"


def _hint(model: type[Strict], path: list[str | int]) -> str:
    key = str(path[-1])
    known = _keys_at(model, path[:-1])
    for name, field in model.model_fields.items():
        block = _block(field.annotation)
        if block and key in _names(block):
            return f"it belongs under {field.alias or name}"
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.6):
        return f"did you mean {near[0]}?"
    return f"known keys: {', '.join(sorted(known))}"


def _described(schema: Any, pattern: str) -> str | None:
    """The words that a JSON Schema has for values of a pattern."""
    if isinstance(schema, dict) and schema.get("pattern") == pattern:
        return schema.get("description")
    inner = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        return next((words for part in inner if (words := _described(part, pattern))), None)
    return None


def _keys_at(model: type[Strict], path: list[str | int]) -> list[str]:
    """Names of the fields of the block that ``path`` leads to."""
    block: type[BaseModel] = model
    for part in path:
        fields = block.model_fields.items()
        field = next((f for name, f in fields if part in (name, f.alias)), None)
        found = _block(field.annotation) if field else None
        if found is None:
            break
        block = found
    return _names(block)


def _names(block: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in block.model_fields.items()]


def _block(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        if found := _block(inner):
            return found
    return None
