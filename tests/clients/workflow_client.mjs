// A client of the workflow API as its vendor writes one, with Node's own fetch: the requests are those of the vendor's
// n8n node (a log-in for a token, filters as `filter%5Bname%5D[]=value`, account numbers as texts, a Content-Type only
// with a body), and those that its documentation has beside them. It knows a base URL and two keys, LEAD_KEY and
// AGENT_KEY, and expects of every answer what the documentation says of its shape.

import assert from "node:assert/strict";

const API = `${process.env.BASE_URL}/api/v3`;

// What the documentation lists of each type of resource.
const TEXT = "string", NUMBER = "number", FLAG = "boolean", LIST = "list", OBJECT = "object", TIME = "time";
const SHAPES = {
  "workflow/activities": {
    id: TEXT, assigned_account_id: NUMBER, name: TEXT, status: TEXT, started_at: TIME, completed_at: TIME,
    try_resolve_at: TIME, actor_roles: LIST, whitelisted_ids: LIST, blacklisted_ids: LIST, working_seconds: NUMBER,
    live_seconds: NUMBER, pipeline_seconds: NUMBER, data: OBJECT, output: OBJECT, indicators: OBJECT, created_at: TIME,
  },
  "workflow/work_units": {
    name: TEXT, created_at: TIME, status: TEXT, created_by_id: NUMBER, priority: NUMBER,
  },
  "workflow/projects": {
    name: TEXT, enabled: FLAG, readonly: FLAG, organizational_unit: TEXT, definition: OBJECT, created_at: TIME,
    updated_at: TIME,
  },
  "workflow/project/members": {
    account_id: NUMBER, actor_roles: LIST, first_name: TEXT, middle_name: TEXT, last_name: TEXT, picture_url: TEXT,
    is_supervisor: FLAG, created_at: TIME, updated_at: TIME,
  },
  "workflow/work_periods": { started_at: TIME, ended_at: TIME, account_id: NUMBER, is_updated: FLAG, read_only: FLAG },
  "workflow/nodes": { name: TEXT },
  "iam/accounts": { account_id: NUMBER, name: TEXT },
};

const fits = (value, kind) => {
  if (value === null) return true;
  if (kind === TIME) return typeof value === "string" && !Number.isNaN(Date.parse(value));
  if (kind === LIST) return Array.isArray(value);
  if (kind === OBJECT) return typeof value === "object" && !Array.isArray(value);
  return typeof value === kind;
};

function shaped(resource) {
  const shape = SHAPES[resource.type];
  assert.ok(shape, `an unknown type: ${resource.type}`);
  assert.equal(typeof resource.id, "string");
  for (const [name, kind] of Object.entries(shape)) {
    assert.ok(name in resource.attributes, `${resource.type} without ${name}`);
    assert.ok(fits(resource.attributes[name], kind), `${resource.type} ${name}: ${resource.attributes[name]}`);
  }
  for (const [name, link] of Object.entries(resource.relationships ?? {})) {
    assert.ok("data" in link, `${resource.type} ${name} without data`);
  }
  return resource.attributes;
}

class Refused extends Error {
  constructor(status, body) {
    super(body.errors.map((error) => `${error.title} ${error.detail}`).join(", "));
    this.status = status;
  }
}

class Client {
  constructor(key) {
    this.key = key;
    this.token = "";
  }

  async logIn() {
    const response = await fetch(`${API}/iam/auth/api/login`, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify({ key: this.key }),
    });
    const body = await response.json();
    if (!response.ok) throw new Error(`Authentication failed: ${body.message}`);
    this.token = body.meta.token;
    return body;
  }

  async request(method, path, data, query = {}) {
    if (this.token === "") await this.logIn();
    const headers = { Authorization: `Bearer ${this.token}` };
    const options = { method, headers };
    if (data !== undefined && method !== "GET") {
      headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(data);
    }
    const parts = Object.entries(query).flatMap(([key, value]) =>
      Array.isArray(value)
        ? value.map((each) => `${encodeURIComponent(key)}[]=${encodeURIComponent(each)}`)
        : [`${encodeURIComponent(key)}=${encodeURIComponent(value)}`],
    );
    const url = `${API}${path}${parts.length > 0 ? `?${parts.join("&")}` : ""}`;
    const response = await fetch(url, options);
    if (!response.ok) throw new Refused(response.status, await response.json());
    return method === "DELETE" ? true : response.json();
  }

  async list(resource, { filters = {}, included, fields = {}, sort, page } = {}) {
    const query = included ? { included } : {};
    if (sort) query.sort = sort;
    if (page) Object.assign(query, { "page[number]": String(page[0]), "page[size]": String(page[1]) });
    for (const [name, values] of Object.entries(filters)) query[`filter[${name}]`] = values.split(",").map((each) => each.trim());
    for (const [kind, names] of Object.entries(fields)) query[`fields[${kind}]`] = names.split(",");
    const body = await this.request("GET", `/workflow/${resource}`, undefined, query);
    assert.ok(Array.isArray(body.data));
    if (Object.keys(fields).length === 0) [...body.data, ...(body.included ?? [])].forEach(shaped);
    return body;
  }

  async write(method, path, data) {
    const body = await this.request(method, `/workflow/${path}`, data);
    return { ...body.data, is: shaped(body.data), meta: body.meta };
  }
}

const document = (type, attributes, more = {}) => ({ data: { type: `workflow/${type}`, attributes, ...more } });
const ofProject = (id) => ({ relationships: { project: { data: { type: "workflow/projects", id } } } });
const start = (activity) => ({ data: { attributes: { activity_id: activity } } });

async function refused(promise, status, words) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.status, status, error.message);
    assert.match(error.message, words);
    return true;
  });
}

// Log-in.
await assert.rejects(new Client("PULSE_0123").logIn(), /Authentication failed: .+/);
const lead = new Client(process.env.LEAD_KEY), agent = new Client(process.env.AGENT_KEY);
shaped((await agent.logIn()).data);
const me = (await agent.request("GET", "/iam/accounts/me")).data;
assert.equal(shaped(me).account_id, 42);

// Projects: what the node creates, renames, switches off and on, and lists.
const made = await lead.write("POST", "projects", document("projects", {
  name: "South", organizational_unit: "Sales", organization_id: "7", definition: '{"indicators":{"throughput":{}}}',
}));
assert.deepEqual(Object.keys(made.is.definition.indicators), ["throughput"]);
const project = made.id;
for (const change of [{ name: "Southern" }, { enabled: false }, { enabled: true }]) {
  await lead.write("PATCH", `projects/${project}`, document("projects", change, { id: project }));
}
const projects = await lead.list("projects", { filters: { name__match: "SOUTH" }, included: ["members"], page: [1, 20] });
assert.deepEqual(projects.data.map((each) => each.attributes.name), ["Southern"]);

// Members of the project of the scene.
const members = await lead.list("members", { filters: { project_id: "p", account_id__in: "42, 44" }, included: ["project"], sort: "account_id" });
assert.deepEqual(members.data.map((each) => each.attributes.account_id), [42, 44]);
assert.deepEqual(members.included.map((each) => each.id), ["p"]);

const joining = document("project/members", { is_supervisor: true, account_id: "43", actor_roles: ["cook"] }, ofProject(project));
const joined = await lead.write("POST", "members", joining);
assert.deepEqual([joined.is.account_id, joined.is.is_supervisor, joined.is.actor_roles.includes("cook")], [43, true, true]);
const role = document("project/members", { is_supervisor: false, actor_roles: [] }, { id: joined.id });
assert.equal((await lead.write("PATCH", `members/${joined.id}`, role)).is.is_supervisor, false);
await refused(agent.request("DELETE", `/workflow/members/${joined.id}`), 403, /forbidden/);
assert.equal(await lead.request("DELETE", `/workflow/members/${joined.id}`), true);
assert.deepEqual((await lead.list("members", { filters: { project_id: project } })).data, []);

// Work units: created by project, listed and cancelled.
const unit = await lead.write("POST", "work_units", document("work_units", { name: "Order 7" }, ofProject("p")));
assert.equal(unit.is.name, "Order 7");
const changed = await lead.write("PATCH", `work_units/${unit.id}`, document("work_units", { priority: 2 }, { id: unit.id }));
assert.equal(changed.is.priority, 2);
const units = await lead.list("work_units", {
  filters: { project_id: "p", name__match: "order", status__in: "pending", priority: "2" }, included: ["nodes"],
});
assert.deepEqual(units.data.map((each) => each.id), [unit.id]);
assert.equal(units.included.length, 2);
const other = await lead.write("POST", "work_units", document("work_units", {}, ofProject("p")));
assert.equal((await lead.write("POST", `work_units/${other.id}/cancel`)).is.status, "canceled");

// Activities: listed, given away, taken back, and worked on.
const page = await lead.list("activities", { filters: { work_unit_id: unit.id }, included: ["project", "work_unit", "node"], sort: "id" });
assert.equal(page.data.length, 2);
const [first, second] = page.data.map((each) => each.id);
const assign = { account_id: "42", start_working: false };
const given = await lead.write("PATCH", `activities/${first}/assign`, assign);
assert.equal(given.is.assigned_account_id, 42);
await refused(lead.request("PATCH", `/workflow/activities/${first}/assign`, assign), 409, /already-assigned/);
assert.equal((await lead.write("PATCH", `activities/${first}/unassign`)).is.assigned_account_id, null);
await lead.write("PATCH", `activities/${first}/assign`, assign);
assert.equal((await agent.write("PATCH", `activities/${first}/process`)).is.status, "in-progress");
await refused(agent.request("PATCH", `/workflow/activities/${first}/process`), 422, /already-processing/);
const draft = await agent.write("PATCH", `activities/${first}`, { data: { note: "rang" } });
assert.deepEqual(draft.is.data, { note: "rang" });

// The tracker, and the periods of work that it leaves.
assert.equal((await agent.write("POST", "tracker/pause", { account_id: null })).is.status, "paused");
const last = (await agent.request("GET", "/workflow/tracker/last")).data;
assert.ok(Date.parse(shaped(last).ended_at) >= Date.parse(last.attributes.started_at));
assert.equal(last.relationships.activity.data.id, first);
const resumed = await agent.write("POST", "tracker/resume");
assert.equal(typeof resumed.meta.working_seconds, "number");
assert.equal((await lead.write("POST", "tracker/pause/42")).is.status, "paused");
assert.equal((await agent.write("POST", "tracker/start", start(first))).is.status, "in-progress");
const done = await agent.write("PATCH", `activities/${first}/complete`, { data: { signed: true } });
assert.deepEqual(done.is.output, { note: "rang", signed: true });
const periods = await lead.list("work_periods", {
  filters: { activity_id: first, account_id: "42" }, included: ["project", "activity", "activity.work_unit"], sort: "started_at",
});
assert.equal(periods.data.length, 3);
assert.ok(periods.data.every((each) => each.attributes.ended_at !== null));
assert.deepEqual(new Set(periods.included.map((each) => each.id)), new Set(["p", first, unit.id]));

// An activity that ends badly, and one that is given up.
await lead.write("PATCH", `activities/${second}/assign`, { account_id: "43", start_working: true });
await lead.write("PATCH", `activities/${second}/reassign`, { account_id: 42 });
const failed = await agent.write("POST", `activities/${second}/error`, { data: { comment: "no road" } });
assert.equal(failed.is.status, "errored");
assert.equal((await lead.write("POST", "activities/t/cancel")).is.status, "canceled");
await refused(lead.request("GET", "/workflow/activities/nobody"), 404, /not-found/);

const sparse = await lead.list("activities", { fields: { "workflow/activities": "name,status" }, filters: { work_unit_id: unit.id } });
assert.deepEqual(sparse.data.map((each) => Object.keys(each.attributes)), [["name", "status"], ["name", "status"]]);
console.log("done");
