"""What several dialects have alike: types of what is shown, and models with keys in camelCase."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.http.core.models import Request, View

_DATE_TIME = Field(json_schema_extra={"format": "date-time"}, examples=["2025-10-31T01:50:00.000Z"])
Count = Annotated[int, Field(ge=0)]
Time = Annotated[str, _DATE_TIME]
MaybeTime = Annotated[str | None, _DATE_TIME]
CAMEL = ConfigDict(alias_generator=to_camel)


class CamelView(View):
    """A view with keys in camelCase."""

    model_config = CAMEL


class CamelRequest(Request):
    """A request with keys in camelCase."""

    model_config = CAMEL
