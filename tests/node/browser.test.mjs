// What a browser does: fetch with CORS, server-sent events by hand, resume with Last-Event-ID.

import assert from "node:assert/strict";
import { test } from "node:test";
import { AppendInput, AppendRecord } from "@s2-dev/streamstore";
import { newStream, target } from "./target.mjs";

const text = (...bodies) => AppendInput.create(bodies.map((body) => AppendRecord.string({ body })));

/** Opens an event stream; yields `{event, id, data}`. */
async function* events({ basinName, name }, query, headers = {}) {
  const leave = new AbortController();
  const url = `${target}/v1/streams/${encodeURIComponent(name)}/records?${new URLSearchParams(query)}`;
  const response = await fetch(url, { headers: { "s2-basin": basinName, accept: "text/event-stream", ...headers }, signal: leave.signal });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type"), /^text\/event-stream/);
  let pending = "";
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body) {
      pending += decoder.decode(chunk, { stream: true });
      for (let end; (end = pending.indexOf("\n\n")) >= 0; pending = pending.slice(end + 2)) {
        yield Object.fromEntries(pending.slice(0, end).split("\n").map((line) => line.split(/:\s?(.*)/s, 2)));
      }
    }
    assert.equal(pending, "", "the body ends inside an event");
  } finally {
    leave.abort();
  }
}

async function all(iterable) {
  const found = [];
  for await (const item of iterable) found.push(item);
  return found;
}

const bodies = (found) => found.filter((e) => e.event === "batch").flatMap((e) => JSON.parse(e.data).records.map((r) => r.body));

test("a bounded event stream has ids and ends with [DONE]", async () => {
  const made = await newStream();
  await made.stream.append(text("a", "b", "c"));
  const found = await all(events(made, { seq_num: 0, count: 2 }));
  assert.deepEqual(bodies(found), ["a", "b"]);
  assert.equal(found.filter((e) => e.event === "batch").at(-1).id, "1,2,18");
  assert.deepEqual(found.at(-1), { data: "[DONE]" });
});

test("resume goes on after Last-Event-ID, with the same query", async () => {
  const made = await newStream();
  await made.stream.append(text("a", "b", "c", "d"));
  const found = await all(events(made, { seq_num: 0, count: 3 }, { "last-event-id": "1,2,18" }));
  assert.deepEqual(bodies(found), ["c"]);
  assert.equal(found.find((e) => e.event === "batch").id, "2,3,27");
  assert.deepEqual(await all(events(made, { seq_num: 0, count: 3 }, { "last-event-id": "2,3,27" })), [{ data: "[DONE]" }]);
});

test("a follower is pinged at once and sees live records", async () => {
  const made = await newStream();
  let pinged = false;
  for await (const event of events(made, { seq_num: 0 })) {
    if (event.event === "ping" && !pinged) {
      pinged = true;
      assert.equal(JSON.parse(event.data).tail.seq_num, 0);
      await made.stream.append(text("live"));
    }
    if (event.event === "batch") {
      assert.deepEqual(bodies([event]), ["live"]);
      break;
    }
  }
  assert.ok(pinged);
});

test("CORS preflight and answer", async () => {
  const preflight = await fetch(`${target}/v1/basins`, {
    method: "OPTIONS",
    headers: {
      origin: "https://example.com",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,s2-basin,content-type",
    },
  });
  assert.ok(preflight.ok);
  assert.match(preflight.headers.get("access-control-allow-origin"), /^(\*|https:\/\/example\.com)$/);
  assert.match(preflight.headers.get("access-control-allow-methods"), /\*|POST/);
  assert.match(preflight.headers.get("access-control-allow-headers"), /\*|s2-basin/i);
  const answer = await fetch(`${target}/v1/basins?limit=1`, { headers: { origin: "https://example.com" } });
  assert.match(answer.headers.get("access-control-allow-origin"), /^(\*|https:\/\/example\.com)$/);
});
