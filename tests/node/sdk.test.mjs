// S2's own TypeScript SDK (0.27.0) against the server: unary over HTTP/1.1 (fetch), sessions over h2c or SSE.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  AppendInput,
  AppendRecord,
  BatchTransform,
  FencingTokenMismatchError,
  Producer,
  RangeNotSatisfiableError,
  S2Error,
  SeqNumMismatchError,
} from "@s2-dev/streamstore";
import { client, newStream, sleep, unique } from "./target.mjs";

const text = (body, options = {}) => AppendRecord.string({ body, ...options });
const batch = (bodies, options) => AppendInput.create(bodies.map((body) => text(body)), options);
const from = (seqNum, stop) => ({ start: { from: { seqNum } }, stop });
const withStatus = (status, code) => (error) => error instanceof S2Error && error.status === status && error.code === code;

async function collect(session) {
  const records = [];
  for await (const record of session) records.push(record);
  return records;
}

// ---------------------------------------------------------------- append and read

test("append and read, text and bytes", async () => {
  const { stream } = await newStream();
  const ack = await stream.append(AppendInput.create([text("héllo", { headers: [["k", "v"]], timestamp: 7 })]));
  assert.deepEqual([ack.start.seqNum, ack.end.seqNum, ack.start.timestamp.getTime()], [0, 1, 7]);
  const bytes = AppendRecord.bytes({ body: new Uint8Array([0, 255]), headers: [[new Uint8Array([254]), new Uint8Array()]] });
  assert.equal((await stream.append(AppendInput.create([bytes]))).end.seqNum, 2);
  const asText = await stream.read(from(0, { limits: { count: 1 } }));
  assert.deepEqual([asText.records[0].body, asText.records[0].headers], ["héllo", [["k", "v"]]]);
  const asBytes = await stream.read(from(1), { as: "bytes" });
  assert.deepEqual([...asBytes.records[0].body], [0, 255]);
  assert.deepEqual([...asBytes.records[0].headers[0][0]], [254]);
  assert.equal((await stream.checkTail()).tail.seqNum, 2);
  await stream.close();
});

test("reading at the tail is a typed error or a wait", async () => {
  const { stream } = await newStream();
  await stream.append(batch(["a"]));
  await assert.rejects(stream.read(from(1)), (error) => error instanceof RangeNotSatisfiableError && error.tail.seqNum === 1);
  assert.deepEqual((await stream.read(from(1, { waitSecs: 1 }))).records, []);
  const clamped = { start: { from: { seqNum: 99 }, clamp: true }, stop: { waitSecs: 1 } };
  assert.deepEqual((await stream.read(clamped)).records, []);
  await stream.close();
});

for (const transport of ["s2s", "fetch"]) {
  test(`a pipelined append session over ${transport}`, async () => {
    const { stream } = await newStream({ transport });
    const session = await stream.appendSession();
    const tickets = [];
    for (let i = 0; i < 200; i++) tickets.push(await session.submit(batch([`r${i}`], { matchSeqNum: i })));
    for (const [i, ticket] of tickets.entries()) assert.equal((await ticket.ack()).start.seqNum, i);
    await session.close();
    const records = await collect(await stream.readSession(from(0, { limits: { count: 200 } })));
    assert.deepEqual(records.map((record) => record.body), [...Array(200).keys()].map((i) => `r${i}`));
    await stream.close();
  });

  test(`follow while another task appends, over ${transport}`, async () => {
    const { stream } = await newStream({ transport });
    await stream.append(batch(["old"]));
    const session = await stream.readSession(from(0));
    const writer = (async () => {
      for (let i = 0; i < 30; i++) await stream.append(batch([`live ${i}`]));
    })();
    let next = 0;
    for await (const record of session) {
      assert.equal(record.seqNum, next++);
      if (next === 31) break;
    }
    await writer;
    await stream.close();
  });

  test(`a failed condition ends a session over ${transport} with a typed error`, async () => {
    const { stream } = await newStream({ transport });
    const session = await stream.appendSession();
    await (await session.submit(batch(["a"]))).ack();
    const ticket = await session.submit(batch(["b"], { matchSeqNum: 9 }));
    await assert.rejects(ticket.ack(), (error) => error instanceof SeqNumMismatchError && error.expectedSeqNum === 1);
    await session.close().catch(() => {});
    assert.equal((await stream.checkTail()).tail.seqNum, 1);
    await stream.close();
  });

  test(`a session over ${transport} on a missing stream is 404`, async () => {
    const { basin } = await newStream();
    const stream = basin.stream("missing", { forceTransport: transport });
    await assert.rejects(async () => collect(await stream.readSession(from(0))), withStatus(404, "stream_not_found"));
    await assert.rejects(async () => {
      const session = await stream.appendSession();
      await (await session.submit(batch(["a"]))).ack();
    }, withStatus(404, "stream_not_found"));
    await stream.close();
  });
}

test("full batches through a session", async () => {
  const { stream } = await newStream({ transport: "s2s" });
  const body = new Uint8Array((1 << 20) - 8).fill(120);
  const session = await stream.appendSession();
  const tickets = [];
  for (let i = 0; i < 8; i++) tickets.push(await session.submit(AppendInput.create([AppendRecord.bytes({ body })])));
  for (const ticket of tickets) await ticket.ack();
  await session.close();
  const records = await collect(await stream.readSession(from(0, { limits: { count: 8 } }), { as: "bytes" }));
  assert.deepEqual(records.map((record) => record.body.length), Array(8).fill(body.length));
  await stream.close();
});

test("a producer batches by itself", async () => {
  const { stream } = await newStream();
  const producer = new Producer(new BatchTransform({ lingerDurationMillis: 2 }), await stream.appendSession());
  const tickets = [];
  for (let i = 0; i < 1200; i++) tickets.push(await producer.submit(text(`${i}`)));
  for (const [i, ticket] of tickets.entries()) assert.equal((await ticket.ack()).seqNum(), i);
  await producer.close();
  await stream.close();
});

test("a follower catches up", async () => {
  const { stream } = await newStream({ transport: "s2s" });
  await stream.append(batch(["a", "b"]));
  const session = await stream.readSession(from(0));
  const caughtUp = session.caughtUp();
  const reading = (async () => {
    let count = 0;
    for await (const _ of session) if (++count === 3) break;
  })();
  assert.equal((await caughtUp).seqNum, 2);
  await stream.append(batch(["c"]));
  await reading;
  await stream.close();
});

for (const compression of ["gzip", "zstd"]) {
  test(`compression ${compression}`, async (t) => {
    if (compression === "zstd" && !process.getBuiltinModule?.("node:zlib")?.zstdCompressSync) return t.skip("this Node has no zstd");
    const { stream } = await newStream({ s2: client({ compression }) });
    const body = "compressible ".repeat(1000);
    await stream.append(batch([body]));
    const session = await stream.appendSession();
    await (await session.submit(batch([body]))).ack();
    await session.close();
    const records = await collect(await stream.readSession(from(0, { limits: { count: 2 } })));
    assert.deepEqual(records.map((record) => record.body), [body, body]);
    await stream.close();
  });
}

// ---------------------------------------------------------------- conditions

test("match, fence and trim", async () => {
  const { stream } = await newStream();
  await stream.append(batch(["a", "b"], { matchSeqNum: 0 }));
  await assert.rejects(stream.append(batch(["x"], { matchSeqNum: 0 })), (e) => e instanceof SeqNumMismatchError && e.expectedSeqNum === 2);
  await stream.append(AppendInput.create([AppendRecord.fence("mine")]));
  await stream.append(batch(["c"], { fencingToken: "mine" }));
  await assert.rejects(
    stream.append(batch(["d"], { fencingToken: "other" })),
    (e) => e instanceof FencingTokenMismatchError && e.expectedFencingToken === "mine",
  );
  await stream.append(AppendInput.create([AppendRecord.trim(3)]));
  for (let i = 0; (await stream.read(from(0))).records[0].seqNum !== 3; i++) {
    assert.ok(i < 300, "still untrimmed");
    await sleep(100);
  }
  await stream.close();
});

test("timestamping modes", async () => {
  const require = await newStream({ config: { timestamping: { mode: "client-require" } } });
  await assert.rejects(require.stream.append(batch(["a"])), withStatus(422, "invalid"));
  const arrival = await newStream({ config: { timestamping: { mode: "arrival" } } });
  const ack = await arrival.stream.append(AppendInput.create([text("a", { timestamp: 5 })]));
  assert.ok(ack.start.timestamp.getTime() > 1e12);
});

// ---------------------------------------------------------------- control plane

test("what is missing or taken has its code", async () => {
  const { s2, basinName, basin, name } = await newStream();
  await assert.rejects(s2.basins.create({ basin: basinName }), withStatus(409, "resource_already_exists"));
  await assert.rejects(basin.streams.create({ stream: name }), withStatus(409, "resource_already_exists"));
  await assert.rejects(basin.stream("missing").checkTail(), withStatus(404, "stream_not_found"));
  await assert.rejects(s2.basins.getConfig({ basin: unique("nowhere") }), withStatus(404, "basin_not_found"));
});

test("ensure and reconfigure", async () => {
  const { s2, basinName, basin } = await newStream();
  const stream = "ensured";
  assert.equal((await basin.streams.ensure({ stream })).result, "created");
  assert.equal((await basin.streams.ensure({ stream })).result, "noop");
  const config = { storageClass: "native", retentionPolicy: { ageSecs: 77 } };
  assert.equal((await basin.streams.ensure({ stream, config })).result, "updated");
  const got = await basin.streams.reconfigure({ stream, retentionPolicy: { infinite: {} } });
  assert.equal(got.storageClass, "native");
  assert.ok(got.retentionPolicy.infinite);
  const basinConfig = await s2.basins.reconfigure({ basin: basinName, createStreamOnAppend: true });
  assert.ok(basinConfig.createStreamOnAppend && !basinConfig.createStreamOnRead);
  const made = basin.stream("made-by-append");
  await made.append(batch(["a"], { streamConfig: { retentionPolicy: { ageSecs: 5 } } }));
  assert.deepEqual((await basin.streams.getConfig({ stream: "made-by-append" })).retentionPolicy, { ageSecs: 5 });
});

test("list in pages", async () => {
  const { s2, basinName, basin, name } = await newStream();
  for (const stream of ["a/1", "a/2", "a/3"]) await basin.streams.create({ stream });
  const page = await basin.streams.list({ prefix: "a/", limit: 2 });
  assert.deepEqual([page.streams.map((info) => info.name), page.hasMore], [["a/1", "a/2"], true]);
  const all = [];
  for await (const info of basin.streams.listAll()) all.push(info.name);
  assert.deepEqual(all, ["a/1", "a/2", "a/3", name]);
  assert.deepEqual((await s2.basins.list({ prefix: basinName })).basins.map((info) => info.name), [basinName]);
});

test("a deleted stream made again starts from zero", async () => {
  const { s2, basinName, basin, name, stream } = await newStream();
  await stream.append(batch(["old", "older"]));
  await basin.streams.delete({ stream: name });
  for (let i = 0; ; i++) {
    try {
      await basin.streams.create({ stream: name });
      break;
    } catch (error) {
      assert.ok(i < 350 && ["stream_deletion_pending", "resource_already_exists"].includes(error.code), error);
      await sleep(200);
    }
  }
  assert.equal((await stream.append(batch(["new"]))).start.seqNum, 0);
  await s2.basins.delete({ basin: basinName });
  await stream.close();
});
