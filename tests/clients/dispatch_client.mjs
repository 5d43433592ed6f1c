// A day of a client of the original dispatch API, written from its documentation alone; it knows nothing of Foldwork.
// Each answer is held against the documented shape. The address, the keys and the ids come from the environment.

import assert from "node:assert/strict";

const { BASE_URL, TOKEN, TENANT, API_KEY, COMMERCE, ROUTE, OPERATOR, USER } = process.env;
const asUser = { Authorization: `Bearer ${TOKEN}`, "x-tenant-id": TENANT };
const asSystem = { "x-api-key": API_KEY };

// Shapes: a name of a type, `maybe` one, a list of one shape, or an object; keys that are not named are not looked at.
const maybe = (type) => ({ maybe: type });
const created = { id: "string", type: "string", channel: "string", status: "string" };
const activity = { ...created, scheduledAt: "string", commerceAssignment: { commerceId: "string", commerce: { name: "string" } } };
const meta = { page: "number", limit: "number", total: "number", totalPages: "number" };
const attribute = {
  id: "string", activityId: "string", attributeKeyId: "string", resolutionStatus: "string",
  resolverType: maybe("string"), resolvedAt: maybe("string"), errorMessage: maybe("string"),
  createdAt: "string", updatedAt: "string",
};
const target = { id: "string", commerceUserId: maybe("string"), resolutionStatus: "string", lockReason: maybe("string") };
const statusEvent = {
  id: "string", eventType: "string", fromStatus: maybe("string"), toStatus: "string",
  errorCode: maybe("string"), errorMessage: maybe("string"), occurredAt: "string",
};
const attributeKey = { id: "string", key: "string", label: "string", description: maybe("string") };
const attributePolicy = {
  id: "string", attributeKeyId: "string", resolutionStrategy: "string", resolverType: "string",
  attributeKey: { key: "string", label: "string" },
};
const targetResolution = {
  id: "string", resolutionStrategy: "string", fallbackToCommerceRep: "boolean", fallbackToOwner: "boolean",
  priority: "number", isActive: "boolean",
  criteria: [{ id: "string", criteriaType: "string", criteriaConfig: "object", priority: "number" }],
};
const dispatchConfig = {
  id: "string", dispatchProviderId: "string", channel: "string", settings: "object", isActive: "boolean",
  dispatchProvider: { code: "string", name: "string" },
};
const schema = [{ key: "string", label: "string", type: "string", required: "boolean" }];
const channel = { channel: "string", credentialSchema: schema, settingsSchema: schema };
const provider = {
  id: "string", code: "string", name: "string", protocolType: "string", isActive: "boolean", channelDefinitions: [channel],
};
const channelDefinition = { ...channel, id: "string", dispatchProviderId: "string" };
const retentionStatus = {
  id: "string", code: "string", label: "string", description: maybe("string"), isActive: "boolean",
  createdAt: "string", updatedAt: "string",
};
const resultType = { code: "string", label: "string", requiresFutureScheduledAt: "boolean" };
const integrationTask = {
  id: "string", activityOrigin: "string", type: "string", status: "string", channel: "string", scheduledAt: "string",
  occurredAt: maybe("string"), createdAt: "string", lifecycleStatus: "string", lifecycleStatusLabel: "string",
  lifecycleStatusDetail: maybe("string"), canForceRetryDispatch: "boolean", commerceExternalId: "string",
  commerceName: "string",
};
const failure = { statusCode: "number", message: "string", error: "string" };

function demand(value, shape, place = "answer") {
  if (typeof shape === "string") {
    assert.ok(value !== null && typeof value === shape, `${place} is ${JSON.stringify(value)}, and no ${shape}`);
  } else if (Array.isArray(shape)) {
    assert.ok(Array.isArray(value), `${place} is no array`);
    value.forEach((each, index) => demand(each, shape[0], `${place}[${index}]`));
  } else if ("maybe" in shape) {
    if (value !== null) demand(value, shape.maybe, place);
  } else {
    assert.ok(value !== null && typeof value === "object", `${place} is no object`);
    for (const [name, inner] of Object.entries(shape)) {
      assert.ok(name in value, `${place} has no ${name}`);
      demand(value[name], inner, `${place}.${name}`);
    }
  }
}

async function call(method, path, { headers = asUser, body, status = 200, shape } = {}) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const response = await fetch(`${BASE_URL}/api${path}`, { method, headers: { ...headers, ...type }, ...sent });
  const text = await response.text();
  assert.equal(response.status, status, `${method} ${path}: ${text}`);
  if (status === 204) return assert.equal(text, "");
  const found = JSON.parse(text);
  demand(found, status >= 400 ? failure : shape ?? {}, `${method} ${path}`);
  return found;
}

const get = (path, shape, headers) => call("GET", path, { shape, headers });
const post = (path, body, shape, status = 201, headers = asUser) => call("POST", path, { body, shape, status, headers });
const patch = (path, body, status = 200) => call("PATCH", path, { body, shape: activity, status });

// What there is to choose from, and the configuration that is made of it.

const keys = await get("/activity-config/attribute-keys", [attributeKey]);
const commerceInfo = keys.find((each) => each.key === "commerce_info");
const policy = { attribute_key_id: commerceInfo.id, resolution_strategy: "UPFRONT", resolver_type: "INTERNAL_SERVICE" };
await post("/activity-config/attribute-policies", policy, attributePolicy, 200);
await post("/activity-config/attribute-policies", policy, attributePolicy, 200);
assert.equal((await get("/activity-config/attribute-policies", [attributePolicy])).length, 1);

const criteria = [
  { type: "ROLE_MATCH", config: { role: "COMMERCE_REP" }, priority: 0 },
  { type: "LAST_CONTACTED_SAME_CHANNEL", config: {}, priority: 1 },
];
const resolution = { resolution_strategy: "ON_CREATION", fallback_to_commerce_rep: false, fallback_to_owner: true, priority: 0, criteria };
await post("/activity-config/target-resolution", resolution, targetResolution);
const [stored] = await get("/activity-config/target-resolution", [targetResolution]);
assert.deepEqual(stored.criteria.map((each) => each.criteriaType), criteria.map((each) => each.type));

const [first] = await get("/dispatch-providers", [provider]);
const definitions = await get(`/dispatch-providers/${first.id}/channel-definitions`, [channelDefinition]);
assert.ok(definitions.some((each) => each.channel === "WHATSAPP"));
const config = { dispatch_provider_id: first.id, channel: "WHATSAPP", base_url: "https://provider.example.com" };
await post("/dispatch-configs", config, dispatchConfig);
const configs = await get("/dispatch-configs", [dispatchConfig]);
assert.deepEqual(configs.map((each) => each.channel).sort(), ["SALESMAN", "WHATSAPP"]);

const churned = { code: "churned", label: "Abandonado", description: "Cliente ha abandonado" };
await post("/user-retention-statuses", churned, retentionStatus);
const statuses = await get("/user-retention-statuses?active_only=true", [retentionStatus]);
assert.deepEqual(statuses.map((each) => each.code), ["churned"]);

// Activities of both types.

const task = (key, more = {}) => ({
  reason: "Monthly visit", channel: "SALESMAN", commerce_id: COMMERCE, idempotency_key: key, assigned_route_id: ROUTE,
  assigned_operator_id: OPERATOR, scheduled_at: "2025-01-16T09:00:00.000Z", attribute_keys: ["commerce_info"], ...more,
});
const withDetails = { ...created, taskDetails: { assignedRouteId: "string", assignedOperatorId: "string" } };
const create = (key, more) => post("/activities/tasks", task(key, more), withDetails);
const visit = await create("task-2025-01-15-001");
assert.equal(visit.status, "READY");
const message = await post("/activities", {
  type: "MESSAGE", reason: "Monthly promotion", channel: "WHATSAPP", commerce_id: COMMERCE,
  idempotency_key: "msg-2025-01-15-001", scheduled_at: "2027-01-16T09:00:00.000Z", attribute_keys: ["commerce_info"],
}, created);
assert.equal(message.type, "MESSAGE");
for (const [type, own] of [["TASK", visit], ["MESSAGE", message]]) {
  const query = new URLSearchParams({ status: "READY", type, page: "1", limit: "10" });
  const page = await get(`/activities?${query}`, { data: [activity], meta });
  assert.deepEqual(page.data.map((each) => each.id), [own.id]);
}
const read = await get(`/activities/${visit.id}`, activity);
assert.equal(read.commerceAssignment.commerceId, COMMERCE);
const [info] = await get(`/activities/${visit.id}/attributes`, [attribute]);
assert.equal(info.resolutionStatus, "RESOLVED");
const [found] = await get(`/activities/${visit.id}/target-users`, [target]);
assert.equal(found.lockReason, "CRITERIA_MATCH");

// Targets that are not found.

const lost = await create("lost", { target_criteria: [{ type: "ROLE_MATCH", config: { role: "COOK" }, priority: 0 }] });
assert.equal(lost.status, "UNRESOLVED");
const [nobody] = await get(`/activities/${lost.id}/target-users`, [target]);
await patch(`/activities/${lost.id}/retry-resolution`, {});
const resolved = await patch(`/activities/${lost.id}/target-users/${nobody.id}/resolve`, { commerce_user_id: USER });
assert.equal(resolved.status, "READY");

// Sent out, and ended by a result.

await call("POST", `/activities/tasks/${visit.id}/dispatch`, { status: 204 });
const told = { commerce_external_id: "store-001", occurred_at: "2025-01-16T14:30:00.000Z" };
await post("/activity-results/tasks", {
  activity_id: visit.id, ...told, status: "COMPLETED", task_result: { result: "SALE_COMPLETED", contact_type: "OUTBOUND" },
});
assert.equal((await get(`/activities/${visit.id}`, activity)).status, "COMPLETED");
const events = await get(`/activities/${visit.id}/status-events`, [statusEvent]);
assert.equal(events.at(-1).toStatus, "COMPLETED");
assert.ok(events.some((each) => each.eventType === "DISPATCH_REQUESTED"));
assert.equal((await patch(`/activities/${message.id}/cancel`, {})).status, "CANCELED");

// A system that asks for its tasks and reports results.

const types = await get("/integration/task-result-type-configs", [resultType], asSystem);
assert.deepEqual(types.filter((each) => each.requiresFutureScheduledAt).map((each) => each.code), ["RESCHEDULE"]);
const pending = `/integration/activities/tasks?${new URLSearchParams({ page: "1", per_page: "10", status: "PENDING" })}`;
const waiting = await get(pending, { data: [integrationTask], meta }, asSystem);
assert.deepEqual(waiting.data.map((each) => each.id), [lost.id]);
const report = { activity_id: lost.id, ...told, status: "NOT_EFFECTIVE", task_result: { result: "RESCHEDULE" } };
const submit = (body, status) => post("/integration/activity-results/tasks", body, {}, status, asSystem);
await submit(report, 400);
report.task_result.future_scheduled_at = "2027-01-20T09:00:00.000Z";
await submit(report, 201);
await submit(report, 409);
await submit({ ...report, status: "EFFECTIVE", hard_override: true }, 201);
const effective = "/integration/activities/tasks?result_status=EFFECTIVE&external_commerce_id=store-001";
const done = await get(effective, { data: [integrationTask], meta }, asSystem);
assert.deepEqual(done.data.map((each) => each.id).sort(), [lost.id, visit.id].sort());
assert.equal((await get(pending, { data: [integrationTask], meta }, asSystem)).meta.total, 0);

// Errors.

await post("/activities/tasks", task("task-2025-01-15-001"), {}, 409);
await post("/activities/tasks", task("k-2", { channel: "PIGEON" }), {}, 400);
await post("/activities/tasks", task("k-2", { commerce_id: ROUTE }), {}, 404);
await call("GET", `/activities/${ROUTE}`, { status: 404 });
await call("GET", "/dispatch-providers/nobody/channel-definitions", { status: 404 });
await call("POST", `/activities/tasks/${message.id}/dispatch`, { status: 400 });
await call("PATCH", `/activities/${visit.id}/cancel`, { body: {}, status: 400 });
await call("GET", "/activities", { headers: {}, status: 401 });
await call("GET", "/activities", { headers: { ...asUser, "x-tenant-id": "another" }, status: 403 });
await call("PATCH", `/activities/${lost.id}/cancel`, { headers: asSystem, body: {}, status: 403 });

console.log("the day is done");
