/** What a connection hands on: `data` as JSON, or as what JSON holds. */
export interface Message {
  readonly id: string;
  readonly data: unknown;
}

/** An open stream. */
export interface Connection {
  on(event: string, handler: (message: Message) => void): void;
  close(): void;
}

/** Opens a stream of channels; any client that can be asked for events by name will do. */
export type Connect = (channels: readonly string[]) => Connection;

/** An event of one name. `id` is the client's place, which a transient event does not move. */
export interface Event<Name extends keyof Payloads> {
  readonly event: Name;
  readonly id: string;
  readonly data: Payloads[Name];
}

/** One of the events of these names: look at `event`, and `data` is known. */
export type EventOf<Name extends keyof Payloads> = { [Each in Name]: Event<Each> }[Name];

/** What to do with which event, and with what a stream says of itself: on `stream.reset`, load anew. */
export type Handlers<Name extends keyof Payloads> = {
  readonly [Each in Name]?: (data: Payloads[Each], event: Event<Each>) => void;
} & {
  readonly [Each in keyof Controls]?: (data: Controls[Each]) => void;
} & {
  /** Is handed each of the events, after its own handler. */
  readonly each?: (event: EventOf<Name>) => void;
};

/** Connect by EventSource, which comes back by itself, to where it was. */
export function eventSource(base = "", options: EventSourceInit = {}): Connect {
  return (channels) => {
    const query = channels.map((channel) => `channel=${encodeURIComponent(channel)}`).join("&");
    const source = new EventSource(`${base}/streams/?${query}`, options);
    return {
      on: (event, handler) =>
        source.addEventListener(event, ({ lastEventId, data }) => handler({ id: lastEventId, data })),
      close: () => source.close(),
    };
  };
}

function subscribe<Name extends keyof Payloads>(
  channel: string,
  names: readonly Name[],
  handlers: Handlers<Name>,
  connect: Connect,
): () => void {
  const connection = connect([channel]);
  const read = ({ data }: Message) => (typeof data === "string" ? JSON.parse(data) : data);
  for (const name of names) {
    connection.on(name, (message) => {
      const event: Event<Name> = { event: name, id: message.id, data: read(message) };
      const handler = handlers[name] as ((data: Payloads[Name], event: Event<Name>) => void) | undefined;
      handler?.(event.data, event);
      handlers.each?.(event as EventOf<Name>);
    });
  }
  for (const name of CONTROLS) {
    const handler = handlers[name] as ((data: Controls[typeof name]) => void) | undefined;
    if (handler) connection.on(name, (message) => handler(read(message)));
  }
  return () => connection.close();
}
