// S2's own TypeScript SDK in a page of a real browser, from another origin than the server: CORS, preflights, unary
// JSON, and the SDK's reading session, which is server-sent events there.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { target, unique } from "./target.mjs";

// Nothing but loopback: the browser's own errands are switched off.
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

let browser, site, profile, page;

before(async () => {
  const sdk = await build({
    stdin: { contents: 'export * from "@s2-dev/streamstore";', resolveDir: import.meta.dirname },
    bundle: true, format: "esm", platform: "browser", write: false, logLevel: "error", external: ["node:*"],
  });
  const files = { "/": ["text/html", "<!doctype html><title>page</title>"], "/sdk.js": ["text/javascript", sdk.outputFiles[0].text] };
  site = createServer((request, response) => {
    const [type, body] = files[request.url] ?? ["text/plain", ""];
    response.writeHead(files[request.url] ? 200 : 404, { "content-type": type }).end(body);
  });
  await new Promise((done) => site.listen(0, "127.0.0.1", done));
  profile = await mkdtemp(join(tmpdir(), "millrace-chromium-"));
  browser = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
  page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
});

after(async () => {
  await browser?.close();
  site?.close();
  if (profile) await rm(profile, { recursive: true, force: true });
});

test("a page of another origin creates, appends, reads and follows", async () => {
  const seen = await page.evaluate(async ([target, basinName]) => {
    const { S2, AppendInput, AppendRecord } = await import("/sdk.js");
    const s2 = new S2({ accessToken: "ignored", endpoints: { account: target, basin: target } });
    await s2.basins.create({ basin: basinName });
    const basin = s2.basin(basinName);
    await basin.streams.create({ stream: "from a page/ü" });
    const stream = basin.stream("from a page/ü");
    const append = (...bodies) => stream.append(AppendInput.create(bodies.map((body) => AppendRecord.string({ body }))));
    const ack = await append("one", "two");
    const unary = await stream.read({ start: { from: { seqNum: 0 } } });
    const session = await stream.readSession({ start: { from: { seqNum: 0 } } });
    const followed = [];
    for await (const record of session) {
      followed.push(record.body);
      if (followed.length === 2) await append("three");
      if (followed.length === 3) break;
    }
    return { end: ack.end.seqNum, unary: unary.records.map((r) => r.body), followed };
  }, [target, unique("page")]);
  assert.deepEqual(seen, { end: 2, unary: ["one", "two"], followed: ["one", "two", "three"] });
});

test("a page sees typed errors and the headers of answers", async () => {
  const seen = await page.evaluate(async ([target, basinName]) => {
    const headers = { "content-type": "application/json", authorization: "Bearer ignored" };
    const put = () => fetch(`${target}/v1/basins/${basinName}`, { method: "PUT", headers, body: "{}" });
    const [first, second] = [await put(), await put()];
    const missing = await fetch(`${target}/v1/streams/none/records?seq_num=0`, { headers: { ...headers, "s2-basin": basinName } });
    return {
      provisioned: [first, second].map((answer) => answer.headers.get("s2-provision-result")),
      missing: [missing.status, (await missing.json()).code],
    };
  }, [target, unique("page")]);
  assert.deepEqual(seen, { provisioned: ["created", "noop"], missing: [404, "stream_not_found"] });
});

test("EventSource reads a stream whose basin is in the host", async () => {
  const basinName = unique("page");
  const { port } = new URL(target);
  const host = `http://${basinName}.localhost:${port}`;
  const seen = await page.evaluate(async ([target, host, basinName]) => {
    const headers = { "content-type": "application/json" };
    const config = { create_stream_on_append: true };
    await fetch(`${target}/v1/basins`, { method: "POST", headers, body: JSON.stringify({ basin: basinName, config }) });
    await fetch(`${host}/v1/streams/s/records`, { method: "POST", headers, body: JSON.stringify({ records: [{ body: "hello" }] }) });
    const source = new EventSource(`${host}/v1/streams/s/records?seq_num=0`);
    const data = await new Promise((done, failed) => {
      source.addEventListener("batch", (event) => done([event.lastEventId, JSON.parse(event.data).records[0].body]));
      source.onerror = () => failed(new Error("the event source failed"));
    });
    source.close();
    return data;
  }, [target, host, basinName]);
  assert.deepEqual(seen, ["0,1,13", "hello"]);
});
