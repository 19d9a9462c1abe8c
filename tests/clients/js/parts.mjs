// The parts that need no browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { test } from "node:test";
import { EventSource } from "eventsource";
import { Client, follow, Parser } from "../../../clients/js/index.js";
import { pause } from "../../../clients/js/src/backoff.js";
import { earliest, heard, newer } from "../../../clients/js/src/place.js";

const { cases } = JSON.parse(readFileSync(new URL("../sse_cases.json", import.meta.url), "utf8"));

/** Yield the bytes whole, one by one, and cut in two at every place. */
function* cuts(bytes) {
  yield [bytes];
  yield Array.from(bytes, (byte) => Uint8Array.of(byte));
  for (let at = 0; at <= bytes.length; at += 1) yield [bytes.subarray(0, at), bytes.subarray(at)];
}

for (const { name, stream, hex, events, last_id, retry } of cases) {
  test(`parser: ${name}`, () => {
    for (const pieces of cuts(hex === undefined ? Buffer.from(stream) : Buffer.from(hex, "hex"))) {
      const found = [];
      const parser = new Parser(({ type, data, lastId }) => {
        if (data !== undefined) found.push({ event: type, data, id: lastId });
      });
      for (const piece of pieces) parser.push(piece);
      assert.deepEqual([found, parser.lastId, parser.retry], [events, last_id, retry], `${pieces.length} pieces`);
    }
  });
}

test("parser: a megabyte of data in small pieces takes no longer than in one", () => {
  const bytes = Buffer.from(`data: ${"x".repeat(1_000_000)}\n\n`);
  const found = [];
  const parser = new Parser(({ data }) => found.push(data.length));
  const begun = performance.now();
  for (let at = 0; at < bytes.length; at += 100) parser.push(bytes.subarray(at, at + 100));
  assert.deepEqual(found, [1_000_000]);
  assert.ok(performance.now() - begun < 2_000);
});

test("backoff: the most doubles up to a cap, and any less is as likely", () => {
  const most = [0, 1, 2, 3, 4, 5, 6, 40].map((failures) => pause(failures, null, () => 1));
  assert.deepEqual(most, [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
  assert.equal(pause(5, null, () => 0), 0);
  const drawn = Array.from({ length: 4000 }, () => pause(3));
  for (let part = 0; part < 4; part += 1) {
    const share = drawn.filter((wait) => wait >= part * 2000 && wait < (part + 1) * 2000).length;
    assert.ok(share > 800 && share < 1200, `${part}: ${share}`);
  }
});

test("backoff: no sooner than the server asked for", () => {
  assert.equal(pause(0, 812), 812);
  assert.equal(pause(2, 812, () => 0), 812);
  assert.equal(pause(2, 812, () => 1), 4000);
  assert.equal(pause(0, 86_400_000), 60_000); // a day is no answer
  assert.equal(pause(9, 86_400_000), 60_000);
  for (const date of [NaN, 0, null, undefined]) assert.equal(pause(2, date, () => 0.5), 2000);
});

test("place: what was heard is known only of one tape", () => {
  assert.equal(newer("a-10", "a-9"), true);
  assert.equal(newer("a-9", "a-10"), false);
  assert.equal(newer("a-9", "a-9"), false);
  assert.equal(newer("b-1", "a-9"), true); // of another epoch
  assert.equal(newer("a-b-10", "a-b-9"), true);
  for (const place of [null, "", "earliest", "nonsense"]) assert.equal(newer("a-1", place), true);
  for (const id of ["earliest", "nonsense", ""]) assert.equal(newer(id, "a-1"), false);
  for (const [id, place] of [["a-9", "a-9"], ["a-9", "a-10"], ["a-9", "a-09"], ["x", "x"]]) assert.ok(heard(id, place));
  for (const [id, place] of [["a-10", "a-9"], ["b-1", "a-9"], ["a-1", null], ["y", "x"], ["y", "a-9"], ["a-9", "y"], ["y", null]]) {
    assert.equal(heard(id, place), false, `${id} ${place}`);
  }
});

test("place: the earliest is where nobody misses anything", () => {
  assert.equal(earliest([null, "a-10", undefined, "a-9", "a-11"]), "a-9");
  assert.equal(earliest(["a-10", "earliest", "a-9"]), "earliest");
  assert.equal(earliest(["earliest", "a-9"]), "earliest");
  assert.equal(earliest([null, undefined]), null);
});

/** Answer as a function does; run with the address. */
async function answering(answer, run) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await run(`http://127.0.0.1:${server.address().port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("backoff: a `Retry-After` that is a date is no time to wait", async () => {
  const { setTimeout } = globalThis;
  const waits = [];
  globalThis.setTimeout = (then, ms) => (waits.push(ms), setTimeout(then, ms));
  const answer = (_, response) => response.writeHead(503, { "Retry-After": new Date().toUTCString() }).end();
  try {
    await answering(answer, async (url) => {
      const failed = [];
      let following;
      await new Promise((resolve) => {
        const onState = (state) => state === "offline" && failed.push(state) === 2 && resolve();
        following = follow("streams/", {}, { url, way: "fetch", onState });
      });
      following.close();
    });
  } finally {
    globalThis.setTimeout = setTimeout;
  }
  assert.ok(waits.every((ms) => ms >= 0), `${waits}`);
});

/** Serve a stream of these events, two to a connection; run with its address and what it was asked for. */
async function serving(events, run) {
  const asked = [];
  const answer = (request, response) => {
    asked.push(new URL(request.url, "http://here/").searchParams);
    const from = asked.at(-1).get("last_event_id");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const opened = { mode: from ? "resumed" : "live", cursor: from ?? events[0].id, missed: null };
    const block = (id, type, data) => `${id ? `id: ${id}\n` : ""}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
    response.write(block(opened.cursor, "stream.open", opened));
    const behind = events.findIndex(({ id }) => id === opened.cursor) + 1;
    const next = events.slice(behind, behind + 2); // and then it breaks off
    for (const { id, type, data } of next) response.write(block(id, type, data));
    if (next.length) response.end();
    else response.write(block(null, "stream.live", {}));
  };
  await answering(answer, (url) => run(url, asked));
}

test("client: ids of any form are handed back as they are, and nothing is lost", async () => {
  const ids = ["zz", "0", "ü b", "a-9", "a-x", "/&=", "{}"];
  const events = ids.map((id, n) => ({ id, type: "Noted", data: { n } }));
  await serving(events, async (url, asked) => {
    const client = new Client({ url, way: "fetch" });
    const got = [];
    await new Promise((resolve) => {
      const Noted = ({ n }, { id }) => got.push([n, id]) === ids.length - 1 && resolve();
      client.subscribe("item:7", { Noted });
    });
    client.close();
    assert.deepEqual(got, ids.slice(1).map((id, n) => [n + 1, id]));
    assert.deepEqual(asked.map((query) => query.get("last_event_id")).slice(0, 3), [null, "ü b", "a-x"]);
  });
});

test("client: what comes by a kind of channel is for who asked for one of that kind", async () => {
  const types = { ByGroup: ["group"], ByItem: ["item"], ByUser: ["user"], ByAll: ["system"] };
  const events = [["", {}], ["ByGroup", {}], ["ByItem", { item_id: "7" }], ["ByItem", { item_id: "77" }], ["ByUser", {}], ["ByAll", {}]]
    .map(([type, data], n) => ({ id: `a-${n}`, type, data }));
  await serving(events, async (url) => {
    const client = new Client({ url, way: "fetch", routes: types });
    const got = {};
    await new Promise((resolve) => {
      for (const channel of ["me", "group:g", "item:7", "user:1", "system", "item:8"]) {
        const keep = (data, { type }) => (got[channel] ??= []).push(type);
        client.subscribe(channel, Object.fromEntries(Object.keys(types).map((type) => [type, keep])));
      }
      client.subscribe("system", { ByAll: resolve });
    });
    client.close();
    assert.deepEqual(got, {
      me: ["ByGroup", "ByUser", "ByAll"], "group:g": ["ByGroup"], "item:7": ["ByItem"], "user:1": ["ByUser"], system: ["ByAll"],
    });
  });
});

test("follow: a request with a method is sent once, also where its answer falls silent", async () => {
  let sent = 0;
  const answer = (_, response) => {
    sent += 1;
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write("event: start\ndata: {}\n\n");
  };
  await answering(answer, async (url) => {
    const states = [];
    let following;
    await new Promise((resolve) => {
      const onState = (state, { reason }) => (states.push([state, reason]), states.length === 2 && resolve());
      following = follow("jobs/", {}, { url, method: "POST", body: "{}", watchdog: 10, onState });
    });
    following.close();
    assert.deepEqual(states.slice(0, 2), [["live", undefined], ["over", "cut"]]);
  });
  assert.equal(sent, 1);
});

test("follow: who slept over a request with a method keeps what is heard still", async () => {
  const [{ now }, { setInterval }] = [Date, globalThis];
  let look;
  let ahead = 0;
  Date.now = () => now() + ahead;
  globalThis.setInterval = (then) => void (look = then);
  let response;
  const answer = (_, given) => {
    response = given;
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write("event: start\ndata: {}\n\n");
  };
  const heard = [];
  try {
    await answering(answer, async (url) => {
      let following;
      await new Promise((resolve) => {
        const start = () => {
          heard.push("start");
          ahead = 40_000;
          look();
          response.end("event: done\ndata: {}\n\n");
        };
        const done = () => heard.push("done");
        const onState = (state) => state === "over" && resolve();
        following = follow("jobs/", { start, done }, { url, method: "POST", body: "{}", onState });
      });
      following.close();
    });
  } finally {
    Date.now = now;
    globalThis.setInterval = setInterval;
  }
  assert.deepEqual(heard, ["start", "done"]);
});

test("client: who closes it while it looks into a refusal opens nothing any more", async () => {
  const held = [];
  const asked = [];
  const answer = (request, response) => {
    const channels = new URL(request.url, "http://here/").searchParams.getAll("channel");
    asked.push(channels);
    const refuse = () => response.writeHead(403, { "Content-Type": "application/problem+json" }).end("{}");
    if (channels.length > 1) refuse();
    else held.push(() => (channels[0] === "item:1" ? refuse() : response.writeHead(200).end()));
    if (held.length === 2) probing();
  };
  let probing;
  const probed = new Promise((resolve) => (probing = resolve));
  await answering(answer, async (url) => {
    const client = new Client({ url, way: "fetch" });
    for (const channel of ["item:1", "item:2"]) client.subscribe(channel, {});
    await probed;
    client.close();
    for (const answerNow of held) answerNow();
    await new Promise((resolve) => setTimeout(resolve, 500));
  });
  assert.deepEqual(asked.map((channels) => channels.length), [2, 1, 1]);
});

/** Have a client asked for two channels, where a proxy answers so first; return what was told when it is through. */
async function behind(status, headers, way) {
  let left = 4;
  const told = [];
  const answer = (_, response) => {
    left -= 1;
    if (left >= 0) return response.writeHead(status, headers).end('{"status": 404}');
    const open = { mode: "live", cursor: "a-1" };
    if (way === "poll") {
      response.writeHead(200, { "Content-Type": "application/json" });
      return response.end(JSON.stringify({ events: [], cursor: "a-1", reset: null }));
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`id: a-1\nevent: stream.open\ndata: ${JSON.stringify(open)}\n\n`);
  };
  const { random } = Math;
  Math.random = () => 0.01;
  try {
    await answering(answer, async (url) => {
      const client = new Client({ url, way, token: () => "t" });
      const onOver = ({ status }) => told.push(status);
      const ready = ["item:1", "item:2"].map((channel) => client.subscribe(channel, {}, { onOver }).ready);
      await Promise.allSettled(ready);
      client.close();
    });
  } finally {
    Math.random = random;
  }
  return [left < 0, told];
}

for (const way of ["fetch", "poll"]) {
  for (const type of [undefined, "text/html", "application/json"]) {
    test(`client: what a proxy answers by ${type} is no refusal, by ${way}`, async () => {
      for (const status of [400, 401, 403, 404, 410]) {
        assert.deepEqual(await behind(status, type && { "Content-Type": type }, way), [true, []], `${status}`);
      }
    });
  }
  test(`client: a problem is a refusal at once, by ${way}`, async () => {
    for (const type of ["application/problem+json", "application/problem+json; charset=utf-8"]) {
      assert.deepEqual(await behind(403, { "Content-Type": type }, way), [false, [403, 403]]);
      assert.deepEqual(await behind(401, { "Content-Type": type }, way), [false, [401, 401]]);
    }
  });
}

const reset = (way) => async () => {
  const asked = [];
  const answer = (request, response) => {
    const query = new URL(request.url, "http://here/").searchParams;
    const place = request.headers["last-event-id"] ?? query.get("last_event_id");
    asked.push(place);
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const mode = place === "a-1" ? "reset" : "resumed";
    response.write(`id: b-5\nevent: stream.open\ndata: {"mode": "${mode}", "cursor": "b-5"}\n\n`);
    if (mode === "resumed") response.write("event: Noted\ndata: {}\n\n");
    else if (asked.length > 1) response.write('id: b-5\nevent: stream.reset\ndata: {"reason": "epoch"}\n\n');
    else response.end();
  };
  await answering(answer, async (url) => {
    let following;
    const told = await new Promise((resolve) => {
      following = follow("streams/", { Noted: resolve }, { url, way, after: "a-1", onReset: resolve });
    });
    following.close();
    assert.deepEqual([asked, told], [["a-1", "a-1"], { reason: "epoch", place: "b-5" }]);
  });
};

test("follow: of a reset that is cut off in its beginning the next connection tells", reset("fetch"));

test("follow: and so it does by an EventSource, which goes on by itself", async () => {
  globalThis.EventSource = EventSource;
  await reset("eventsource")().finally(() => delete globalThis.EventSource);
});
