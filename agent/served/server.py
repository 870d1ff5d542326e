"""What a server says of itself before it is asked for work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.served.client import Client
from agent.served.dialects import DIALECTS, UNKNOWN, Dialect, by_owner
from phasewatt.errors import EngineFailed

_SHOWN = 6  # models in a message
_MODELS = "/v1/models"


class Server(NamedTuple):
    """A server and the model that it is asked for."""

    dialect: Dialect
    model: str
    version: str | None
    context: int | None  # tokens that one sequence may have; None: not told
    slots: int | None  # sequences that it decodes at once; None: not told
    parameters: int | None  # of the model, as the server counts them
    model_file: str | None  # as the server's own process knows it

    @property
    def versions(self) -> dict[str, str]:
        """For the conditions of a trial."""
        return {self.dialect.name: self.version or "unknown"}


def look(client: Client, wanted: str) -> Server:
    """The server behind `client`, serving the model `wanted`, or its only one where none is named.

    Raises:
        EngineFailed: it is not ready, serves other models, or cannot be asked for the same work.
    """
    models = _models(client)
    model = _chosen(models, wanted, client.endpoint.url)
    dialect = by_owner(_text(model, "owned_by")) or _by_version(client) or UNKNOWN
    if dialect.refused is not None:
        raise EngineFailed(f"{client.endpoint.url} is {dialect.name}: {dialect.refused}")
    said = _mapping(client.get(dialect.version_path)) if dialect.version_path else {}
    _check_cache(dialect, said)
    meta, defaults = _mapping(model.get("meta")), _mapping(said.get("default_generation_settings"))
    return Server(
        dialect=dialect,
        model=str(model["id"]),
        version=_text(said, dialect.version_key),
        context=_count(defaults.get("n_ctx")) or _count(model.get("max_model_len")),
        slots=_count(said.get("total_slots")),
        parameters=_count(meta.get("n_params")),
        model_file=_text(said, "model_path"),
    )


def _models(client: Client) -> list[Mapping[str, Any]]:
    listed = _mapping(client.get(_MODELS)).get("data")
    models: list[Mapping[str, Any]] = []
    if isinstance(listed, list):
        models = [one for one in listed if isinstance(one, dict) and "id" in one]
    if not models:
        unlisted = "lists no model: it has none, or is no OpenAI-compatible server"
        raise EngineFailed(f"{client.endpoint.url}{_MODELS} {unlisted}")
    return models


def _chosen(models: list[Mapping[str, Any]], wanted: str, url: str) -> Mapping[str, Any]:
    named = [model for model in models if str(model["id"]) == wanted] if wanted else models
    if len(named) == 1:
        return named[0]
    known = ", ".join(str(model["id"])[:80] for model in models[:_SHOWN])
    if wanted:
        raise EngineFailed(f"{url} serves no model {wanted!r}; it serves {known}")
    raise EngineFailed(f"{url} serves {len(models)} models: name one as served_model ({known})")


def _by_version(client: Client) -> Dialect | None:
    """The dialect of a server that does not sign its models, by a path that it alone has."""
    unsigned = [dialect for dialect in DIALECTS if dialect.owner is None and dialect.version_path]
    return next((one for one in unsigned if one.version_key in _mapping(client.get(one.version_path or ""))), None)


def _check_cache(dialect: Dialect, said: Mapping[str, Any]) -> None:
    if dialect.off_key is not None and said.get(dialect.off_key) is not True:
        raise EngineFailed(f"the {dialect.name} server keeps prompts in a cache: {dialect.off_remedy}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    return value[:256] if isinstance(value, str) and value else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
