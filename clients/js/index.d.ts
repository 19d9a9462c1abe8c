/**
 * `connecting`; `live`; `catching-up`, while it brings what was missed; `offline`, while it waits for the next
 * try, or sleeps; `over`: closed, refused, or ended for good.
 */
export type State = "connecting" | "live" | "catching-up" | "offline" | "over";

export interface Why {
  /**
   * Of `offline`: `cut`, the server's own reason (`database`, `capacity`, `drain`, `max_age`, `revoked`),
   * `asleep`, `paused`, or `idle`, where there is nothing to hear. Of `over`: `closed`, or the server's `over`.
   */
  reason?: string;
  /** Of `catching-up`: how many events were missed, where the server knows. */
  missed?: number | null;
  /** Of a refusal: the HTTP status, and what the server said, as in RFC 9457. */
  status?: number;
  problem?: Problem;
}

export interface Problem {
  title?: string;
  status?: number;
  code?: string;
  detail?: string;
  errors?: { field: string; message: string }[];
}

export interface Refusal {
  /** The channel that was refused; none where the stream as a whole was. */
  channel?: string;
  status: number;
  problem?: Problem;
}

export interface Reset {
  /** Why the log cannot prove that nothing is missing: `pruned`, `epoch`, `ahead` or `malformed`. */
  reason: string;
  /** From where it goes on. What is loaded now holds all up to there. */
  place: string;
}

/** What a handler is told beside the payload: the type, and the id, null for what is not in the log. */
export interface Event {
  type: string;
  id: string | null;
}

export type Events = Record<string, any>;

/** Which type of event is handled how. What a handler throws is reported and stops nothing. */
export type Handlers<E extends Events = Events> = { [T in keyof E]?: (data: E[T], event: Event) => void };

/** How to get to the server, and how often. */
export interface ConnectionOptions {
  /** Where the service is; the page's own origin where it is left out. */
  url?: string;
  /** Of `fetch`, and of EventSource; `include` sends cookies to another origin. */
  credentials?: RequestCredentials;
  /**
   * A stream token, asked for at each connection: return one that is still good. It goes into the query. Where
   * it is refused (401) another one is asked for, at most three times in a row and later each time.
   */
  token?: () => string | Promise<string>;
  /** Headers of each request; a function is asked as `token` is. An EventSource cannot send them, so `fetch` reads. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** Milliseconds of silence, heartbeats included, after which a connection counts as dead. Default 45,000. */
  watchdog?: number;
  /** The same for an EventSource, which hides heartbeats: of nothing that can be seen. Default 300,000. */
  blindWatchdog?: number;
  /** Called at each change of the state. */
  onState?: (state: State, why: Why) => void;
}

export type Way = "eventsource" | "fetch" | "websocket" | "poll";

export interface ClientOptions extends ConnectionOptions {
  /** The ways to try, best first. Default: `eventsource` (`fetch`, with `headers`), `websocket`, `poll`. */
  way?: Way | Way[];
  /** Whether tabs share a connection; default true. Without Web Locks (plain HTTP, a sandbox) each has its own. */
  shared?: boolean;
  /** Who shares: tabs of the same group; default the `url`. Tabs of different users must differ in it. */
  group?: string;
  /** Milliseconds for which nobody looks at a tab until it gives the connection back; null for never. Default 60,000. */
  sleepAfter?: number | null;
  /** Where places are kept; default `sessionStorage`, each tab its own; nowhere, if it is forbidden. */
  storage?: Pick<Storage, "getItem" | "setItem">;
  /** By which kinds of channel your own events come; see `ROUTES`. */
  routes?: Record<string, string[]>;
}

export interface SubscriptionOptions {
  /** The `cursor` of what was loaded: exactly what came after it is heard. `earliest`: all that is kept. */
  after?: string;
  /** Keep the place under this name, and begin there when the page is loaded again. It beats `after`. */
  store?: string;
  /** Something may be missing: load anew. */
  onReset?: (reset: Reset) => void;
  /** The channels are not, or no longer, for this user; the subscription is closed. */
  onOver?: (refusal: Refusal) => void;
}

export interface Subscription {
  /** Everything up to here was heard; null before it is on a stream. */
  readonly place: string | null;
  /** Fulfilled with the place from which on everything is heard; rejected if it is refused. */
  readonly ready: Promise<string>;
  close(): void;
}

/**
 * One connection for all that an app listens to, in all its tabs. It is opened with the first subscription.
 */
export class Client<E extends Events = Events> {
  constructor(options?: ClientOptions);
  readonly state: State;
  /**
   * Hear channels until the handle is closed; without `after` from now on. `me` is the user's own: theirs,
   * their groups' and `system`.
   */
  subscribe(channels: string | string[], handlers: Handlers<E>, options?: SubscriptionOptions): Subscription;
  /** Give the connection back until `resume`; nothing is missed. */
  pause(): void;
  resume(): void;
  /** Be gone for good. */
  close(): void;
}

/**
 * By which kinds of channel events come: `{ CommentAdded: ["item"] }` means that one with the `item_id` 7 is for
 * who subscribed to `item:7`. A connection does not say by which of its channels an event came; a type that is
 * not named here is therefore handed to every subscription with a handler for it.
 */
export const ROUTES: Record<string, string[]>;

export interface FollowOptions extends ConnectionOptions {
  /** Default `eventsource`; `fetch` where there are headers or a method. */
  way?: "eventsource" | "fetch";
  /** Such as POST. It is sent once: where its answer breaks off or falls silent, that is the end. */
  method?: string;
  body?: BodyInit;
  after?: string;
  onReset?: (reset: Reset) => void;
  onOver?: (refusal: Refusal) => void;
}

export interface Following {
  readonly state: State;
  readonly place: string | null;
  close(): void;
}

/** Hear one stream by its path, as a job's, on a connection of its own, until it is over. */
export function follow<E extends Events = Events>(
  path: string,
  handlers: Handlers<E>,
  options?: FollowOptions,
): Following;

export interface Block {
  /** The block's own id, where it has one. */
  id?: string;
  /** The id to come back with. */
  lastId: string;
  type: string;
  /** Not there in a block that only moves the place, such as a heartbeat. */
  data?: string;
}

/** How a `text/event-stream` is read. */
export class Parser {
  constructor(hand: (block: Block) => void);
  readonly lastId: string;
  /** The reconnection time in milliseconds, once the server said it. */
  readonly retry: number | null;
  push(bytes: Uint8Array): void;
}
