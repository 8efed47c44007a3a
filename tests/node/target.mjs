// What the Node suites share: the server named by `S2_TARGET`, clients of it, and names nobody else uses.

import { randomUUID } from "node:crypto";
import { S2 } from "@s2-dev/streamstore";

export const target = (process.env.S2_TARGET ?? "").replace(/\/$/, "");
if (!target) throw new Error("S2_TARGET names the server, e.g. http://127.0.0.1:8080");

export const unique = (prefix) => `${prefix}-${randomUUID().slice(0, 18)}`;

export function client(options = {}) {
  return new S2({ accessToken: "ignored", endpoints: { account: target, basin: target }, ...options });
}

/** A basin of its own and an empty stream in it. */
export async function newStream({ config, s2 = client(), transport } = {}) {
  const basinName = unique("node");
  await s2.basins.create({ basin: basinName });
  const basin = s2.basin(basinName);
  const name = unique("stream");
  await basin.streams.create({ stream: name, config });
  return { s2, basinName, basin, name, stream: basin.stream(name, { forceTransport: transport }) };
}

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
