/** One stream of its own: any address, any method, no other tab. */

import { Connection } from "./connection.js";
import { base, safely } from "./tools.js";

/** Hear a stream until it is over or the handle is closed. See index.d.ts. */
export function follow(path, handlers, options = {}) {
  const heard = { __proto__: null, ...handlers };
  const { way = "eventsource", after = null } = options;
  const connection = new Connection(
    { ...options, url: base(options.url), way: options.method || options.headers ? "fetch" : way },
    {
      frame: ({ id, type, data }) => {
        if (type === "stream.reset") safely(options.onReset, { reason: data.reason, place: connection.place });
        safely(heard[type], data, { id: id ?? null, type });
      },
      state: (state, why) => safely(options.onState, state, why),
      refused: (status, problem) => {
        connection.close("over", { status, problem });
        safely(options.onOver, { status, problem });
      },
    },
  );
  connection.open({ path, types: Object.keys(heard) }, after);
  return {
    get state() {
      return connection.state;
    },
    get place() {
      return connection.place;
    },
    close: () => connection.close("over", { reason: "closed" }),
  };
}
