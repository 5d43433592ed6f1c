"""The queries of the native API about a tenant as a whole: figures, a search, what is stuck, acts; and about all."""

from __future__ import annotations

from dataclasses import replace

from services.http.core.operation import Operation
from services.http.native import audit, overview, search, stuck, tenants
from services.http.native.dialect import NATIVE
from services.http.native.webhook_lists import page_of

_OVERVIEW = replace(NATIVE, tag="overview")

OPERATIONS = (
    Operation(
        replace(NATIVE, tag="stuck"), "GET", "/v1/stuck", "read", "list_stuck",
        "List what does not move though it should, with its cause and what to do",
        description="Asked live. Causes follow one another in the order of the enumeration.",
        query=stuck.ListStuck, handler=stuck.list_stuck, view=stuck.StuckPage,
    ),
    Operation(
        replace(NATIVE, tag="audit"), "GET", "/v1/audit", "audit", "list_acts",
        "List what operators did, the newest first",
        description="A page may have fewer acts than its limit, or none, and still a `next`: with filters it looks at"
        f" {audit.WINDOW} acts.",
        query=audit.ListActs, handler=audit.list_acts, view=page_of(audit.Act, "ActPage"),
    ),
    Operation(
        _OVERVIEW, "GET", "/v1/overview", "read", "get_overview", "Read figures of now",
        description="Figures are of the tenant, but for read models and the broker's queues, which all tenants share.",
        query=overview.HowLong, handler=overview.overview, view=overview.Overview,
    ),
    Operation(
        _OVERVIEW, "GET", "/v1/tenants", "tenants", "get_tenants", "Read which tenant loads the system",
        description="Tenants for which something was done lately, or waits, the greatest load first. The permission is"
        " given on the command line alone.",
        query=tenants.Lately, handler=tenants.loads, view=tenants.TenantLoads,
    ),
    Operation(
        _OVERVIEW, "GET", "/v1/search", "read", "search", "Find what has this id, name or value",
        description="Kinds that the key may not read one of are left out.",
        query=search.Searched, handler=search.find, view=search.SearchResults,
    ),
)  # fmt: skip
