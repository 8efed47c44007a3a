// Follows a stream with S2's TypeScript SDK and prints a line per record, until it is killed. For scripts/soak.
// node follow.mjs TARGET BASIN STREAM TRANSPORT

import { S2 } from "@s2-dev/streamstore";

const [target, basin, name, transport] = process.argv.slice(2);
const s2 = new S2({ accessToken: "ignored", endpoints: { account: target, basin: target } });
const session = await s2.basin(basin).stream(name, { forceTransport: transport }).readSession({ start: { from: { seqNum: 1 } } });
for await (const record of session) console.log(record.body);
