// Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited.
const NAMES = [
  "stream.open",
  "stream.live",
  "stream.reset",
  "stream.end",
  "CommentAdded",
  "CommentDeleted",
  "CommentUpdated",
  "EmailSent",
  "ItemChanged",
  "ItemCreated",
  "ItemDeleted",
  "ItemMuted",
  "ItemUnmuted",
  "ItemUnwatched",
  "ItemWatched",
  "JobCancelled",
  "JobFailed",
  "JobProgressed",
  "JobQueued",
  "JobRetrying",
  "JobSent",
  "JobStarted",
  "JobState",
  "MemberAdded",
  "MemberRemoved",
  "NotificationArchived",
  "NotificationRaised",
  "NotificationUnread",
  "NotificationsRead",
  "PreferencesChanged",
  "PresenceChanged",
  "SystemAlert",
  "SystemAlertDismissed",
  "SystemAlertRecalled",
  "SystemAlertUnread",
  "SystemAlertUpdated",
  "SystemAlertsRead",
  "TaskComplete"
];

/**
 * Give an Elm program its streams.
 *
 *     import { tickertape } from "./tickertape.js";
 *     tickertape(Elm.Main.init());
 *
 * `Tickertape.Ports.listen` says which channels are wanted: one that is new is opened, one that is not
 * named any more is closed. What breaks off or is refused comes back by itself, to where it was. `options.base`
 * is where the service is, `options.EventSource` another one than the browser's.
 */
export function tickertape(app, { base = "", EventSource = globalThis.EventSource } = {}) {
  const open = new Map();

  function start(channel) {
    let source, timer;
    let place = "";
    let failures = 0;

    function connect() {
      const after = place && `&last_event_id=${encodeURIComponent(place)}`;
      source = new EventSource(`${base}/streams/?channel=${encodeURIComponent(channel)}${after}`);
      for (const name of NAMES) {
        source.addEventListener(name, ({ data, lastEventId }) => {
          place = lastEventId || place;
          failures = 0;
          app.ports.received.send({ channel, event: name, id: lastEventId, data: JSON.parse(data) });
        });
      }
      source.onerror = () => {
        // At a status other than 200, be it a proxy's, an EventSource gives up and does not say why.
        if (source.readyState !== EventSource.CLOSED) return;
        timer = setTimeout(connect, Math.random() * Math.min(30_000, 1_000 * 2 ** failures));
        failures += 1;
      };
    }

    connect();
    return {
      close() {
        clearTimeout(timer);
        source.close();
      },
    };
  }

  app.ports.listen.subscribe((channels) => {
    for (const [channel, source] of open) {
      if (!channels.includes(channel)) {
        source.close();
        open.delete(channel);
      }
    }
    for (const channel of channels) {
      if (!open.has(channel)) open.set(channel, start(channel));
    }
  });
}
