// The parts that need no browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Parser } from "../../../clients/js/index.js";
import { pause } from "../../../clients/js/src/backoff.js";
import { earliest, newer } from "../../../clients/js/src/place.js";

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
});

test("place: what lies behind it is new, whatever is not told apart is new too", () => {
  assert.equal(newer("a-10", "a-9"), true);
  assert.equal(newer("a-9", "a-10"), false);
  assert.equal(newer("a-9", "a-9"), false);
  assert.equal(newer("b-1", "a-9"), true); // of another epoch
  assert.equal(newer("a-b-10", "a-b-9"), true);
  for (const place of [null, "", "earliest", "nonsense"]) assert.equal(newer("a-1", place), true);
  for (const id of ["earliest", "nonsense", ""]) assert.equal(newer(id, "a-1"), false);
});

test("place: the earliest is where nobody misses anything", () => {
  assert.equal(earliest([null, "a-10", undefined, "a-9", "a-11"]), "a-9");
  assert.equal(earliest(["a-10", "earliest", "a-9"]), "earliest");
  assert.equal(earliest(["earliest", "a-9"]), "earliest");
  assert.equal(earliest([null, undefined]), null);
});
