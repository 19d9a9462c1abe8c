/** An event of one name. `id` is null for what is not in the log, such as a job's progress. */
export interface Event<Name extends keyof Payloads> {
  readonly type: Name;
  readonly id: string | null;
  readonly data: Payloads[Name];
}

/** One of the events of these names: look at `type`, and `data` is known. */
export type EventOf<Name extends keyof Payloads> = { [Each in Name]: Event<Each> }[Name];

/** What to do with which event. One of a type that is newer than this module is not handed on. */
export type Handlers<Name extends keyof Payloads> = {
  readonly [Each in Name]?: (data: Payloads[Each], event: Event<Each>) => void;
} & {
  /** Is handed each of the events, after its own handler. */
  readonly each?: (event: EventOf<Name>) => void;
};

/** From where, what to do on a reset or a refusal, and by which client; see tickertape-client. */
export interface Options extends SubscriptionOptions {
  readonly client?: Client<Payloads>;
}

let shared: Client<Payloads> | undefined;

/** Make the client of all that is subscribed to from now on; without it they are on the page's own origin. */
export function connect(options: ClientOptions = {}): Client<Payloads> {
  return (shared = new Client<Payloads>(options));
}

function subscribe<Name extends keyof Payloads>(
  channel: string,
  names: readonly Name[],
  handlers: Handlers<Name>,
  { client = shared ?? connect(), ...options }: Options = {},
): Subscription {
  const heard: { [Each in Name]?: (data: Payloads[Each], event: { id: string | null }) => void } = {};
  for (const name of names) {
    const handle = handlers[name] as ((data: Payloads[Name], event: Event<Name>) => void) | undefined;
    if (!handle && !handlers.each) continue;
    heard[name] = (data, { id }) => {
      const event: Event<Name> = { type: name, id, data };
      handle?.(data, event);
      handlers.each?.(event as EventOf<Name>);
    };
  }
  return client.subscribe(channel, heard, options);
}

