"""JSON of models: model, version and deployment objects, OpenAPI document.

Enumerations stand as schemas of their own and are referred to, as Cog writes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mediagate_sandbox.models import VERSION_CREATED_AT, InputField, Model, UnreleasedModel

COG_VERSION = "0.16.8"
_VERSION_AGE = timedelta(days=90)
"""How much older each version is than the one after it."""

_OUTPUTS: dict[str, dict[str, Any]] = {
    "stream": {
        "type": "array",
        "items": {"type": "string"},
        "title": "Output",
        "x-cog-array-type": "iterator",
        "x-cog-array-display": "concatenate",
    },
    "text": {"type": "string", "title": "Output"},
    "transcript": {
        "type": "object",
        "title": "ModelOutput",
        "required": ["detected_language", "transcription"],
        "properties": {
            "segments": {"title": "Segments"},
            "srt_file": {"type": "string", "format": "uri", "title": "Srt File", "nullable": True},
            "txt_file": {"type": "string", "format": "uri", "title": "Txt File", "nullable": True},
            "translation": {"type": "string", "title": "Translation", "nullable": True},
            "transcription": {"type": "string", "title": "Transcription"},
            "detected_language": {"type": "string", "title": "Detected Language"},
        },
    },
    "uri": {"type": "string", "format": "uri", "title": "Output"},
    "uris": {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"},
    "audio_out": {
        "type": "object",
        "title": "Output",
        "required": ["audio_out"],
        "properties": {
            "audio_out": {"type": "string", "format": "uri", "title": "Audio Out"},
            "prompt_npz": {"type": "string", "format": "uri", "title": "Prompt Npz"},
        },
    },
}

_OUTPUTS["shapes"] = {
    "type": "object",
    "title": "Output",
    "required": ["picture", "variants", "facts", "labels"],
    "properties": {
        "picture": {"type": "string", "format": "uri", "title": "Picture"},
        "variants": {
            "type": "array",
            "title": "Variants",
            "items": {
                "type": "object",
                "title": "Variant",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "uri", "title": "File"},
                    "score": {"type": "number", "title": "Score", "nullable": True},
                },
            },
        },
        "mask": {"type": "string", "format": "uri", "title": "Mask", "nullable": True},
        "facts": {"type": "object", "title": "Facts"},
        "labels": {"type": "array", "title": "Labels", "items": {"type": "object"}},
    },
}

_TYPES: dict[str, dict[str, Any]] = {
    "uri": {"type": "string", "format": "uri"},
    "uris": {"type": "array", "items": {"type": "string", "format": "uri"}},
    "strings": {"type": "array", "items": {"type": "string"}},
    "array": {"type": "array", "items": {"type": "object"}},
    "secret": {"type": "string", "format": "password", "writeOnly": True, "x-cog-secret": True},
}


def model_json(model: Model, run_count: int, example: dict[str, Any] | None) -> dict[str, Any]:
    """Return the model object with its latest version and its default example."""
    return {
        "url": f"https://replicate.com/{model.slug}",
        "owner": model.owner,
        "name": model.name,
        "description": model.about,
        "visibility": "public",
        "is_official": model.official,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": run_count,
        "cover_image_url": None,
        "default_example": example,
        "latest_version": version_json(model, model.version),
    }


def unreleased_model_json(model: UnreleasedModel) -> dict[str, Any]:
    """Return the model object of a model without a version."""
    return {
        "url": f"https://replicate.com/{model.owner}/{model.name}",
        "owner": model.owner,
        "name": model.name,
        "description": model.about,
        "visibility": "public",
        "is_official": False,
        "github_url": None,
        "paper_url": None,
        "license_url": None,
        "run_count": 0,
        "cover_image_url": None,
        "default_example": None,
        "latest_version": None,
    }


def version_json(model: Model, version: str) -> dict[str, Any]:
    """Return the version object of the newest or an older version."""
    age = ([model.version, *model.older_versions].index(version)) * _VERSION_AGE
    created_at = datetime.fromisoformat(VERSION_CREATED_AT) - age
    return {
        "id": version,
        "created_at": created_at.isoformat().replace("+00:00", "Z"),
        "cog_version": COG_VERSION,
        "openapi_schema": openapi_document(model),
    }


def deployment_json(owner: str, name: str, model: Model) -> dict[str, Any]:
    """Return the deployment object: model, version and hardware."""
    release = {
        "number": 1,
        "model": model.slug,
        "version": model.version,
        "created_at": VERSION_CREATED_AT,
        "created_by": {"type": "user", "username": owner, "name": owner},
        "configuration": {
            "hardware": model.hardware or "cpu",
            "min_instances": 0,
            "max_instances": 1,
        },
    }
    return {"owner": owner, "name": name, "current_release": release}


def openapi_document(model: Model) -> dict[str, Any]:
    """Return the OpenAPI document of a model: `components.schemas` with Input and Output."""
    properties = {
        name: _property(name, field, order)
        for order, (name, field) in enumerate(model.inputs.items())
    }
    given: dict[str, Any] = {"type": "object", "title": "Input", "properties": properties}
    required = [name for name, field in model.inputs.items() if field.required]
    if required:
        given["required"] = required
    enums = {name: _enumeration(name, field) for name, field in model.inputs.items() if field.enum}
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": {"/predictions": {"post": {"x-cog-streaming": True}}}
        if model.cog_streaming
        else {},
        "components": {"schemas": {"Input": given, "Output": _OUTPUTS[model.output], **enums}},
    }


def _enumeration(name: str, field: InputField) -> dict[str, Any]:
    return {
        "enum": list(field.enum),
        "type": field.type,
        "title": name,
        "description": "An enumeration.",
    }


def _property(name: str, field: InputField, order: int) -> dict[str, Any]:
    if field.enum:
        schema: dict[str, Any] = {"allOf": [{"$ref": f"#/components/schemas/{name}"}]}
    else:
        schema = _type_schema(field)
        schema["title"] = name.replace("_", " ").title()
    schema |= {"x-order": order, "description": field.about}
    if field.default is not None:
        schema["default"] = field.default
    elif not field.required:
        schema["nullable"] = True
    if field.min is not None:
        schema["minimum"] = field.min
    if field.max is not None:
        schema["maximum"] = field.max
    if field.pattern is not None:
        schema["pattern"] = field.pattern
    if field.accept is not None:
        schema["x-cog-accept"] = field.accept
    if field.deprecated:
        schema["deprecated"] = True
    return schema


def _type_schema(field: InputField) -> dict[str, Any]:
    if field.any_of:
        return {"anyOf": [dict(_TYPES.get(each, {"type": each})) for each in field.any_of]}
    return dict(_TYPES.get(field.type, {"type": field.type}))
