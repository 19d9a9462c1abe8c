// Written by `manage.py generate_client --lang typescript` from the catalogue of events.
// Not to be edited.

import { Client } from "tickertape-client";
import type { ClientOptions, Subscription, SubscriptionOptions } from "tickertape-client";

/** Someone who is there. */
export interface Person {
  /** The user's id */
  readonly id: string;
  /** The user's name */
  readonly username: string;
}

/** Someone commented on an item, or replied to a comment on it. `timestamp` is in Unix seconds. */
export interface CommentAdded {
  /** The comment's id */
  readonly comment_id: string;
  /** The item's id */
  readonly item_id: string;
  /** The id of the user who wrote it */
  readonly author_id: string;
  /** The author's user name, as it was then */
  readonly author_name: string;
  /** The text, exactly as it was sent */
  readonly text: string;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
  /** The id of the comment that it answers */
  readonly reply_to: string | null;
}

/** A comment is gone. */
export interface CommentDeleted {
  /** The comment's id */
  readonly comment_id: string;
  /** The item's id */
  readonly item_id: string;
}

/** A comment's author changed its text. `edited_at` is in Unix seconds. */
export interface CommentUpdated {
  /** The comment's id */
  readonly comment_id: string;
  /** The item's id */
  readonly item_id: string;
  /** The text from now on, exactly as it was sent */
  readonly new_text: string;
  /** When it was changed, in Unix seconds */
  readonly edited_at: number;
}

/** A mail was handed to the mail server. */
export interface EmailSent {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which mail it is */
  readonly email_type: string;
  /** The address that it was mailed to */
  readonly sent_to: string;
  /** What the mail server's log calls the mail by */
  readonly correlation_id: string;
}

/** An item has other properties; all of them are given. Its title is its owner's. */
export interface ItemChanged {
  /** The item's id */
  readonly item_id: string;
  /** The title */
  readonly title: string;
  /** The id of the item's owner */
  readonly owner_id: string;
  /** Who may read the item: `public` or `members` */
  readonly visibility: string;
}

/** An item came to be. Its title is its owner's. */
export interface ItemCreated {
  /** The item's id */
  readonly item_id: string;
  /** The title */
  readonly title: string;
  /** The id of the item's owner */
  readonly owner_id: string;
  /** Who may read the item: `public` or `members` */
  readonly visibility: string;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** An item is gone, and its comments with it. */
export interface ItemDeleted {
  /** The item's id */
  readonly item_id: string;
}

/** Somebody wants to be told of nothing about an item. */
export interface ItemMuted {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** Somebody wants to be told of an item again, as before they muted it. */
export interface ItemUnmuted {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** Somebody does not want to be told of an item's comments, but of what is meant for them. */
export interface ItemUnwatched {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** Somebody wants to be told of an item's comments. On their own channel only. */
export interface ItemWatched {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** A job was stopped because somebody asked for that. */
export interface JobCancelled {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** A job failed for good. */
export interface JobFailed {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** What went wrong */
  readonly error: string;
  /** The kind of error */
  readonly error_type: string;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** How far a job is. The latest is all there is: not recorded, and not every one is sent. */
export interface JobProgressed {
  /** The job's id */
  readonly job_id: string;
  /** How much is done */
  readonly done: number | number;
  /** How much there is to do, where that is known */
  readonly total: number | number | null;
  /** What to show */
  readonly message: string;
}

/** Somebody asked for a job. `timestamp` is in Unix seconds. */
export interface JobQueued {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** What the job was asked with */
  readonly params: unknown;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** A job failed and is tried again at `retry_at` (Unix seconds). */
export interface JobRetrying {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** Which attempt it is, from 1 */
  readonly attempt: number;
  /** What went wrong */
  readonly error: string;
  /** The kind of error */
  readonly error_type: string;
  /** When it is tried again, in Unix seconds */
  readonly retry_at: number;
}

/** A job's code sent something; `event` is what it calls that, if anything. */
export interface JobSent {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** What the job's code calls it */
  readonly event: string | null;
  /** What the job's code sent */
  readonly data: unknown;
}

/** A worker has the job in hand, for the `attempt`th time. */
export interface JobStarted {
  /** The job's id */
  readonly job_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** Which attempt it is, from 1 */
  readonly attempt: number;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** Where a job stands: told to who comes late, and when it is asked to stop. Not recorded. */
export interface JobState {
  /** The job's id */
  readonly job_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** `queued`, `running`, `complete`, `failed` or `cancelled` */
  readonly state: string;
  /** How far it is: `done`, `total` and `message` */
  readonly progress: unknown;
  /** What the job returned */
  readonly result: unknown;
  /** What went wrong */
  readonly error: string | null;
  /** Whether it was asked to stop, and has not yet */
  readonly stopping: boolean;
}

/** Someone may read an item that is for members. Also on that user's own channel. */
export interface MemberAdded {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** Someone is no longer a member of an item. Also on that user's own channel. */
export interface MemberRemoved {
  /** The item's id */
  readonly item_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** Somebody put a notification away; it is read, too. */
export interface NotificationArchived {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The notification's id */
  readonly notification_id: string;
}

/**
 * Somebody is told something; with a `notification_id` that there is, it takes that one's place.
 *
 * `actors` are the ids of those whose doing it is, the latest first, and `people` how many they
 * are; `count` is how many times they did it. `delivery` says whether to show it at once (`live`)
 * or to leave it in the inbox (`quiet`, `digest`). In Unix seconds, `since` is when the first of it
 * happened, and `timestamp` when the latest did.
 */
export interface NotificationRaised {
  /** The notification's id */
  readonly notification_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** What it is about: `mention`, `reply`, `comment`, `watch` or `job` */
  readonly kind: string;
  /** Whether to show it at once (`live`) or leave it in the inbox */
  readonly delivery: "live" | "quiet" | "digest";
  /** What to show */
  readonly message: string;
  /** The item's id */
  readonly item_id: string | null;
  /** The comment's id */
  readonly comment_id: string | null;
  /** The job's id */
  readonly job_id: string | null;
  /** The id of the user whose doing it is */
  readonly actor_id: string | null;
  /** The id of the item's owner */
  readonly owner_id: string | null;
  /** The ids of those whose doing it is, the latest first */
  readonly actors: string[];
  /** How many people's doing it is */
  readonly people: number;
  /** How many times it happened */
  readonly count: number;
  /** When the first of it happened, in Unix seconds */
  readonly since: number;
  /** When it happened, in Unix seconds */
  readonly timestamp: number;
}

/** Somebody wants to come back to a notification; it is no longer archived either. */
export interface NotificationUnread {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The notification's id */
  readonly notification_id: string;
}

/** Somebody saw these notifications; or all of an item; or, where neither is given, all there are. */
export interface NotificationsRead {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The notifications' ids */
  readonly notification_ids: string[] | null;
  /** The item's id */
  readonly item_id: string | null;
}

/** Somebody wants to be told otherwise; all of it is given. Quiet hours are `HH:MM`, of their zone. */
export interface PreferencesChanged {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** How to be told, by kind of notification */
  readonly types: Record<string, "live" | "off" | "digest">;
  /** When quiet hours begin, as `HH:MM` */
  readonly quiet_start: string | null;
  /** When quiet hours end, as `HH:MM` */
  readonly quiet_end: string | null;
  /** The time zone that the hours are meant in */
  readonly time_zone: string;
  /** Whether others are shown what one has open: `shown` or `hidden` */
  readonly presence: "shown" | "hidden";
}

/** Who has the item open. Transient: on the item's channel, without an id, the latest is all there is. */
export interface PresenceChanged {
  /** The item's id */
  readonly item_id: string;
  /** 50 of them at the most */
  readonly users: Person[];
  /** How many; null while nobody knows, as without Redis */
  readonly total: number | null;
}

/** An admin speaks. Show it until `expires_at`, or until it is recalled or dismissed. */
export interface SystemAlert {
  /** The broadcast's id */
  readonly broadcast_id: string;
  /** The title */
  readonly title: string;
  /** What to show */
  readonly message: string;
  /** How much it matters */
  readonly severity: "info" | "warning" | "critical";
  /** Where to read more */
  readonly link: string | null;
  /** From when on to show it, in Unix seconds */
  readonly starts_at: number;
  /** Until when to show it, in Unix seconds; null: until it is recalled */
  readonly expires_at: number | null;
}

/** Somebody wants to see a broadcast no more, on any device; in the inbox it is read and archived. */
export interface SystemAlertDismissed {
  /** The broadcast's id */
  readonly broadcast_id: string;
  /** The id of the user whom it concerns */
  readonly user_id: string;
}

/** A broadcast was taken back: show it no more. */
export interface SystemAlertRecalled {
  /** The broadcast's id */
  readonly broadcast_id: string;
  /** When it was taken back, in Unix seconds */
  readonly recalled_at: number;
}

/** Somebody wants to come back to a broadcast; it is dismissed no more either. */
export interface SystemAlertUnread {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The broadcast's id */
  readonly broadcast_id: string;
}

/** A broadcast says something else; all of it is given. Who dismissed it need not see it again. */
export interface SystemAlertUpdated {
  /** The broadcast's id */
  readonly broadcast_id: string;
  /** The title */
  readonly title: string;
  /** What to show */
  readonly message: string;
  /** How much it matters */
  readonly severity: "info" | "warning" | "critical";
  /** Where to read more */
  readonly link: string | null;
  /** From when on to show it, in Unix seconds */
  readonly starts_at: number;
  /** Until when to show it, in Unix seconds; null: until it is recalled */
  readonly expires_at: number | null;
}

/** Somebody saw these broadcasts in their inbox; they stay on the screen. On their own channel only. */
export interface SystemAlertsRead {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The broadcasts' ids */
  readonly broadcast_ids: string[];
}

/** A job is done. */
export interface TaskComplete {
  /** The id of the user whom it concerns */
  readonly user_id: string;
  /** The job's id */
  readonly job_id: string;
  /** Which job it is */
  readonly task_type: string;
  /** What the job returned */
  readonly result: unknown;
  /** How long it took, in milliseconds */
  readonly duration_ms: number;
}

/** What each event holds, by its name. */
export interface Payloads {
  readonly CommentAdded: CommentAdded;
  readonly CommentDeleted: CommentDeleted;
  readonly CommentUpdated: CommentUpdated;
  readonly EmailSent: EmailSent;
  readonly ItemChanged: ItemChanged;
  readonly ItemCreated: ItemCreated;
  readonly ItemDeleted: ItemDeleted;
  readonly ItemMuted: ItemMuted;
  readonly ItemUnmuted: ItemUnmuted;
  readonly ItemUnwatched: ItemUnwatched;
  readonly ItemWatched: ItemWatched;
  readonly JobCancelled: JobCancelled;
  readonly JobFailed: JobFailed;
  readonly JobProgressed: JobProgressed;
  readonly JobQueued: JobQueued;
  readonly JobRetrying: JobRetrying;
  readonly JobSent: JobSent;
  readonly JobStarted: JobStarted;
  readonly JobState: JobState;
  readonly MemberAdded: MemberAdded;
  readonly MemberRemoved: MemberRemoved;
  readonly NotificationArchived: NotificationArchived;
  readonly NotificationRaised: NotificationRaised;
  readonly NotificationUnread: NotificationUnread;
  readonly NotificationsRead: NotificationsRead;
  readonly PreferencesChanged: PreferencesChanged;
  readonly PresenceChanged: PresenceChanged;
  readonly SystemAlert: SystemAlert;
  readonly SystemAlertDismissed: SystemAlertDismissed;
  readonly SystemAlertRecalled: SystemAlertRecalled;
  readonly SystemAlertUnread: SystemAlertUnread;
  readonly SystemAlertUpdated: SystemAlertUpdated;
  readonly SystemAlertsRead: SystemAlertsRead;
  readonly TaskComplete: TaskComplete;
}

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


/** Any event there is. */
export type AnyEvent = EventOf<keyof Payloads>;

const GROUP_EVENTS = [
  "SystemAlert",
  "SystemAlertRecalled",
  "SystemAlertUpdated",
] as const satisfies readonly (keyof Payloads)[];

/** An event of a channel `group:`: What concerns a group. Its members read it. */
export type GroupEvent = EventOf<(typeof GROUP_EVENTS)[number]>;

/** Hear a channel `group:` until what this returns is closed. */
export function subscribeToGroup(
  groupName: string,
  handlers: Handlers<(typeof GROUP_EVENTS)[number]>,
  options?: Options,
): Subscription {
  return subscribe(`group:${groupName}`, GROUP_EVENTS, handlers, options);
}

const ITEM_EVENTS = [
  "CommentAdded",
  "CommentDeleted",
  "CommentUpdated",
  "ItemChanged",
  "ItemCreated",
  "ItemDeleted",
  "MemberAdded",
  "MemberRemoved",
  "PresenceChanged",
] as const satisfies readonly (keyof Payloads)[];

/** An event of a channel `item:`: An item and its comments. Who may read it hears it. */
export type ItemEvent = EventOf<(typeof ITEM_EVENTS)[number]>;

/** Hear a channel `item:` until what this returns is closed. */
export function subscribeToItem(
  itemId: string,
  handlers: Handlers<(typeof ITEM_EVENTS)[number]>,
  options?: Options,
): Subscription {
  return subscribe(`item:${itemId}`, ITEM_EVENTS, handlers, options);
}

const JOB_EVENTS = [
  "JobCancelled",
  "JobFailed",
  "JobProgressed",
  "JobQueued",
  "JobRetrying",
  "JobSent",
  "JobStarted",
  "JobState",
  "TaskComplete",
] as const satisfies readonly (keyof Payloads)[];

/** An event of a channel `job:`: A job, from its start to its end. Whoever asked for it reads it. */
export type JobEvent = EventOf<(typeof JOB_EVENTS)[number]>;

/** Hear a channel `job:` until what this returns is closed. */
export function subscribeToJob(
  jobId: string,
  handlers: Handlers<(typeof JOB_EVENTS)[number]>,
  options?: Options,
): Subscription {
  return subscribe(`job:${jobId}`, JOB_EVENTS, handlers, options);
}

const SYSTEM_EVENTS = [
  "SystemAlert",
  "SystemAlertRecalled",
  "SystemAlertUpdated",
] as const satisfies readonly (keyof Payloads)[];

/** An event of a channel `system`: What concerns everyone. Whoever is logged in reads it. */
export type SystemEvent = EventOf<(typeof SYSTEM_EVENTS)[number]>;

/** Hear a channel `system` until what this returns is closed. */
export function subscribeToSystem(
  handlers: Handlers<(typeof SYSTEM_EVENTS)[number]>,
  options?: Options,
): Subscription {
  return subscribe("system", SYSTEM_EVENTS, handlers, options);
}

const USER_EVENTS = [
  "EmailSent",
  "ItemMuted",
  "ItemUnmuted",
  "ItemUnwatched",
  "ItemWatched",
  "JobCancelled",
  "JobFailed",
  "JobQueued",
  "JobRetrying",
  "JobStarted",
  "MemberAdded",
  "MemberRemoved",
  "NotificationArchived",
  "NotificationRaised",
  "NotificationUnread",
  "NotificationsRead",
  "PreferencesChanged",
  "SystemAlert",
  "SystemAlertDismissed",
  "SystemAlertRecalled",
  "SystemAlertUnread",
  "SystemAlertUpdated",
  "SystemAlertsRead",
  "TaskComplete",
] as const satisfies readonly (keyof Payloads)[];

/** An event of a channel `user:`: What concerns a user. They alone read it. */
export type UserEvent = EventOf<(typeof USER_EVENTS)[number]>;

/** Hear a channel `user:` until what this returns is closed. */
export function subscribeToUser(
  userId: string,
  handlers: Handlers<(typeof USER_EVENTS)[number]>,
  options?: Options,
): Subscription {
  return subscribe(`user:${userId}`, USER_EVENTS, handlers, options);
}
