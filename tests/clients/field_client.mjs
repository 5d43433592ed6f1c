// A day's work of a client of the field API in Node, with nothing but fetch and what the original's documentation says.
// BASE_URL is the address of the server, TOKEN a token of an organization that has nothing yet.
import assert from "node:assert/strict";

const HOST = process.env.BASE_URL;
const API = `${HOST}/api/v3`;
const DRIVER = "driver@example.com";
const OTHER = "leandro@mile.app";

async function call(method, path, body, expected = 200) {
  const answer = await fetch(path.startsWith("http") ? path : API + path, {
    method,
    headers: { Authorization: `Bearer ${process.env.TOKEN}`, "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  assert.equal(answer.status, expected, `${method} ${path}: ${text}`);
  return answer.headers.get("content-type").startsWith("application/json") ? JSON.parse(text) : text;
}

// Shapes: each key with the type that the documentation gives it; a type that ends with ? may be null or missing.
function shaped(found, shape, where) {
  for (const [key, type] of Object.entries(shape)) {
    const value = found[key];
    if (type.endsWith("?") && (value === undefined || value === null)) continue;
    const is = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
    assert.equal(is, type.replace("?", ""), `${where}.${key} of ${JSON.stringify(found)}`);
  }
  return found;
}
const TASK = {
  _id: "string", flow: "string?", hubId: "string?", startTime: "string?", endTime: "string?", status: "string",
  organizationId: "string", assignee: "array", createdBy: "string", createdTime: "string", updatedTime: "string",
};
const MASTER = { ...TASK, taskType: "string", workflowId: "string", subId: "array", title: "string" };
// What the page on creating an activity lists.
const { updatedTime, ...NEW_MASTER } = MASTER;
const HUB = {
  _id: "string", name: "string", address: "string", lat: "number", lng: "number", organizationId: "string",
  updatedTime: "string", createdTime: "string",
};
const USER = { _id: "string", email: "string", organizationId: "string", status: "string" };
const PAGE = {
  current_page: "number", data: "array", first_page_url: "string", from: "number?", last_page: "number",
  last_page_url: "string", links: "array", next_page_url: "string?", path: "string", per_page: "number",
  prev_page_url: "string?", to: "number?", total: "number",
};

async function task(method, path, body, expected = 200, message = "Success") {
  const found = await call(method, path, body, expected);
  assert.deepEqual([found.status, found.message], [true, message]);
  return shaped(found.task, TASK, path);
}

async function bulk(method, path, tasks, expected = 200) {
  const found = await call(method, path, { tasks }, expected);
  shaped(found, { success: "number", failed: "number", tasks: "array" }, path);
  assert.equal(found.tasks.length, tasks.length);
  assert.equal(found.success + found.failed, tasks.length);
  for (const each of found.tasks) shaped(each, { status: "boolean", message: "string", _id: "string?" }, path);
  return found;
}

async function refused(method, path, body, expected, message) {
  const found = shaped(await call(method, path, body, expected), { status: "boolean", message: "string" }, path);
  assert.equal(found.status, false);
  if (message !== undefined) assert.equal(found.message, message);
}

// A hub, and a workflow of two steps, whose flows are read back.
const made = await call("POST", "/hub", { name: "Neo Soho", address: "Jakarta", lat: "-6.17434", lng: "106.79028" });
const hub = shaped(made.data, HUB, "hub");
assert.deepEqual((await call("GET", `/hub/${hub._id}/`)).data, hub);
const moved = (await call("PUT", `/hub/${hub._id}`, { ...hub, name: "Central Park" })).property;
assert.equal(shaped(moved, HUB, "hub").name, "Central Park");
const steps = ["Pickup", "Delivery"].map((name) => ({ name, flow: name, flowId: `f-${name}` }));
const defined = await call("POST", "/internal/workflows", { name: "Pickup to Delivery", steps }, 201);
assert.deepEqual([defined.code, defined.message], [201, "Workflow created successfully"]);
const workflow = shaped(defined.workflow, { _id: "string", name: "string", steps: "array" }, "workflow");
assert.deepEqual((await call("GET", "/internal/workflows/search?q=PICKUP")).data, [workflow]);
assert.equal((await call("GET", "/flows")).flows.data.length, 2);
const mapping = await call("GET", `/workflow/${workflow._id}/steps/1/field-mapping-data`);
shaped(mapping.data, { currentStep: "object", previousSteps: "array", existingMappings: "array" }, "mapping");

// An activity, whose steps are done one after the other.
const day = { startTime: "2025-10-31 08:55:00", endTime: "2025-11-01T08:55:00.000+07:00" };
const children = [{ customerName: "John Doe", assignee: [DRIVER], ...day }, { recipientName: "Jane", assignee: [] }];
const created = await call("POST", "/activity", { workflowId: workflow._id, hubId: hub._id, tasks: children }, 201);
assert.deepEqual([created.code, created.message], [201, "Activity created successfully"]);
const activity = shaped(created.data, NEW_MASTER, "activity");
assert.equal(activity.subId.length, 2);
for (const child of activity.subId) {
  await task("PUT", `/task/${child}/assign`, { assignee: [OTHER] });
  const whole = await task("GET", `/task/${child}`);
  assert.equal((await task("PUT", `/task/${child}`, { ...whole, status: "DONE" })).status, "DONE");
}
const master = await call("GET", `/activity/${activity._id}`);
assert.equal(shaped(master.data, MASTER, "activity").status, "DONE");
const { data } = await call("GET", `/activities?pageSize=5&status=DONE&workflowId=${workflow._id}`);
shaped(data, { activities: "array", total: "number", currentPage: "number", lastPage: "number", perPage: "number" }, "list");
assert.deepEqual(data.activities.map((each) => each._id), [activity._id]);
const second = (await call("POST", "/activity", { workflowId: workflow._id, tasks: [{}, {}] }, 201)).data;
const gone = await call("DELETE", `/activity/${second._id}`);
assert.deepEqual(gone, { status: true, code: 200, message: "Activity deleted successfully" });

// A task, changed in part, replaced as a whole, moved and deleted.
const sent = { flow: "Visit", hubId: hub._id, field1: "Jack Ward", field2: "Gambir Jakarta", assignee: [DRIVER] };
const one = await task("POST", "/task", sent, 201, "Task has been created");
assert.deepEqual([one.status, one.field1, one.assignee], ["ONGOING", "Jack Ward", [DRIVER]]);
assert.equal((await task("PATCH", `/task/${one._id}`, { field1: "Jack" })).field2, "Gambir Jakarta");
const { field2, ...whole } = await task("GET", `/task/${one._id}`);
assert.equal("field2" in (await task("PUT", `/task/${one._id}`, { ...whole, label: "Urgent" })), false);
assert.equal((await task("PUT", `/task/${one._id}/move`, { hubId: hub._id })).hubId, hub._id);
await task("DELETE", `/task/${one._id}`);

// Many tasks, by one request each.
const many = Array.from({ length: 25 }, (_, number) => ({ flow: "Survey", refId: `r${number}`, hubId: hub._id }));
const results = (await bulk("POST", "/tasks/bulk/", many, 201)).tasks;
assert.deepEqual(results.map((each) => each.refId), many.map((each) => each.refId));
const ids = results.map(({ _id }) => ({ _id }));
const all = async (method, path, tasks) => {
  const found = await bulk(method, path, tasks);
  assert.deepEqual(found.tasks, tasks.map(({ _id }) => ({ status: true, message: "Success", _id })));
};
await all("PATCH", "/tasks/bulk", ids.map((own) => ({ ...own, floor: 7 })));
await all("PUT", "/tasks/bulk/assign", ids.map((own) => ({ ...own, assignee: [OTHER] })));
await all("PUT", "/tasks/bulk/move", ids.map((own) => ({ ...own, hubId: hub._id })));
const documents = [];
for (const { _id } of ids.slice(0, 3)) documents.push(await task("GET", `/task/${_id}`));
await all("PUT", "/tasks/bulk/", documents.map((each) => ({ ...each, status: "DONE" })));
const partly = await bulk("DELETE", "/tasks/bulk", [ids[3], { _id: "nobody" }]);
assert.deepEqual([partly.success, partly.failed, partly.tasks[1].status], [1, 1, false]);

// Pages, by their links, and the same as CSV.
let page = (await call("GET", `/tasks?flow=Survey&limit=10&sortBy=createdTime&sortOrder=asc`)).tasks;
const seen = [];
for (;;) {
  shaped(page, PAGE, "page");
  assert.equal(page.path, `${API}/tasks`);
  seen.push(...page.data.map((each) => shaped(each, TASK, "row")._id));
  if (page.next_page_url === null) break;
  page = (await call("GET", page.next_page_url)).tasks;
}
assert.deepEqual([seen.length, new Set(seen).size, page.total], [25, 25, 25]);
const text = await call("GET", "/tasks?flow=Survey&format=csv&fields=floor,status&sortBy=createdTime&sortOrder=asc");
const lines = text.trimEnd().split("\r\n");
assert.equal(lines[0], "_id,floor,status");
assert.deepEqual(lines.slice(1).map((line) => line.split(",")[0]), seen);

// People.
const user = shaped((await call("GET", `/user/email/${OTHER}`)).user, USER, "user");
const changed = await call("PATCH", `/user/${user._id}`, { name: "Leandro" });
assert.deepEqual([changed.data.name, changed.message], ["Leandro", "Data has been updated successfully."]);

// Refusals, in the documented words.
await refused("POST", "/activity", { tasks: [] }, 400, "The workflowId field is required.");
await refused("POST", "/activity", { workflowId: "nobody", tasks: [{}] }, 404, "Workflow not found");
await refused("POST", "/internal/workflows", { name: "Pickup to Delivery", steps }, 409, "Workflow name already exists");
await refused("GET", "/task/nobody", undefined, 404, "Data not found");
await refused("GET", "/activity/nobody", undefined, 404, "Activity not found");
await refused("PUT", `/task/${one._id}`, { field1: "too late" }, 409);
await refused("GET", "/tasks?timeFrom=someday", undefined, 400);
await refused("GET", "/nothing", undefined, 404);
assert.deepEqual(await call("DELETE", `/hub/${hub._id}`), { status: true });
await refused("GET", `/hub/${hub._id}`, undefined, 404, "Data not found");
console.log("done");
