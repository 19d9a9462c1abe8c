module Tickertape.Events exposing
    ( Received
    , receivedDecoder
    , Person
    , personDecoder
    , CommentAdded
    , commentAddedDecoder
    , CommentDeleted
    , commentDeletedDecoder
    , CommentUpdated
    , commentUpdatedDecoder
    , EmailSent
    , emailSentDecoder
    , ItemChanged
    , itemChangedDecoder
    , ItemCreated
    , itemCreatedDecoder
    , ItemDeleted
    , itemDeletedDecoder
    , ItemMuted
    , itemMutedDecoder
    , ItemUnmuted
    , itemUnmutedDecoder
    , ItemUnwatched
    , itemUnwatchedDecoder
    , ItemWatched
    , itemWatchedDecoder
    , JobCancelled
    , jobCancelledDecoder
    , JobFailed
    , jobFailedDecoder
    , JobProgressed
    , jobProgressedDecoder
    , JobQueued
    , jobQueuedDecoder
    , JobRetrying
    , jobRetryingDecoder
    , JobSent
    , jobSentDecoder
    , JobStarted
    , jobStartedDecoder
    , JobState
    , jobStateDecoder
    , MemberAdded
    , memberAddedDecoder
    , MemberRemoved
    , memberRemovedDecoder
    , NotificationArchived
    , notificationArchivedDecoder
    , NotificationRaised
    , notificationRaisedDecoder
    , NotificationUnread
    , notificationUnreadDecoder
    , NotificationsRead
    , notificationsReadDecoder
    , PreferencesChanged
    , preferencesChangedDecoder
    , PresenceChanged
    , presenceChangedDecoder
    , SystemAlert
    , systemAlertDecoder
    , SystemAlertDismissed
    , systemAlertDismissedDecoder
    , SystemAlertRecalled
    , systemAlertRecalledDecoder
    , SystemAlertUnread
    , systemAlertUnreadDecoder
    , SystemAlertUpdated
    , systemAlertUpdatedDecoder
    , SystemAlertsRead
    , systemAlertsReadDecoder
    , TaskComplete
    , taskCompleteDecoder
    , StreamOpen
    , streamOpenDecoder
    , StreamLive
    , streamLiveDecoder
    , StreamReset
    , streamResetDecoder
    , StreamEnd
    , streamEndDecoder
    )

{-| What events hold, and how to read it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Dict exposing (Dict)
import Json.Decode as Decode exposing (Decoder)


{-| An event as the ports hand it on. -}
type alias Received =
    { channel : String, event : String, id : String, data : Decode.Value }


receivedDecoder : Decoder Received
receivedDecoder =
    Decode.map4 Received
        (Decode.field "channel" Decode.string)
        (Decode.field "event" Decode.string)
        (Decode.field "id" Decode.string)
        (Decode.field "data" Decode.value)


with : String -> Decoder a -> Decoder (a -> b) -> Decoder b
with name decoder =
    Decode.map2 (|>) (Decode.field name decoder)


{-| Someone who is there. -}
type alias Person =
    { id : String
    , username : String
    }


personDecoder : Decoder Person
personDecoder =
    Decode.succeed Person
        |> with "id" Decode.string
        |> with "username" Decode.string


{-| Someone commented on an item, or replied to a comment on it. `timestamp` is in Unix seconds. -}
type alias CommentAdded =
    { commentId : String
    , itemId : String
    , authorId : String
    , authorName : String
    , text : String
    , timestamp : Int
    , replyTo : Maybe String
    }


commentAddedDecoder : Decoder CommentAdded
commentAddedDecoder =
    Decode.succeed CommentAdded
        |> with "comment_id" Decode.string
        |> with "item_id" Decode.string
        |> with "author_id" Decode.string
        |> with "author_name" Decode.string
        |> with "text" Decode.string
        |> with "timestamp" Decode.int
        |> with "reply_to" (Decode.nullable Decode.string)


{-| A comment is gone. -}
type alias CommentDeleted =
    { commentId : String
    , itemId : String
    }


commentDeletedDecoder : Decoder CommentDeleted
commentDeletedDecoder =
    Decode.succeed CommentDeleted
        |> with "comment_id" Decode.string
        |> with "item_id" Decode.string


{-| A comment's author changed its text. `edited_at` is in Unix seconds. -}
type alias CommentUpdated =
    { commentId : String
    , itemId : String
    , newText : String
    , editedAt : Int
    }


commentUpdatedDecoder : Decoder CommentUpdated
commentUpdatedDecoder =
    Decode.succeed CommentUpdated
        |> with "comment_id" Decode.string
        |> with "item_id" Decode.string
        |> with "new_text" Decode.string
        |> with "edited_at" Decode.int


{-| A mail was handed to the mail server. -}
type alias EmailSent =
    { userId : String
    , emailType : String
    , sentTo : String
    , correlationId : String
    }


emailSentDecoder : Decoder EmailSent
emailSentDecoder =
    Decode.succeed EmailSent
        |> with "user_id" Decode.string
        |> with "email_type" Decode.string
        |> with "sent_to" Decode.string
        |> with "correlation_id" Decode.string


{-| An item has other properties; all of them are given. Its title is its owner's. -}
type alias ItemChanged =
    { itemId : String
    , title : String
    , ownerId : String
    , visibility : String
    }


itemChangedDecoder : Decoder ItemChanged
itemChangedDecoder =
    Decode.succeed ItemChanged
        |> with "item_id" Decode.string
        |> with "title" Decode.string
        |> with "owner_id" Decode.string
        |> with "visibility" Decode.string


{-| An item came to be. Its title is its owner's. -}
type alias ItemCreated =
    { itemId : String
    , title : String
    , ownerId : String
    , visibility : String
    , timestamp : Int
    }


itemCreatedDecoder : Decoder ItemCreated
itemCreatedDecoder =
    Decode.succeed ItemCreated
        |> with "item_id" Decode.string
        |> with "title" Decode.string
        |> with "owner_id" Decode.string
        |> with "visibility" Decode.string
        |> with "timestamp" Decode.int


{-| An item is gone, and its comments with it. -}
type alias ItemDeleted =
    { itemId : String
    }


itemDeletedDecoder : Decoder ItemDeleted
itemDeletedDecoder =
    Decode.succeed ItemDeleted
        |> with "item_id" Decode.string


{-| Somebody wants to be told of nothing about an item. -}
type alias ItemMuted =
    { itemId : String
    , userId : String
    }


itemMutedDecoder : Decoder ItemMuted
itemMutedDecoder =
    Decode.succeed ItemMuted
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| Somebody wants to be told of an item again, as before they muted it. -}
type alias ItemUnmuted =
    { itemId : String
    , userId : String
    }


itemUnmutedDecoder : Decoder ItemUnmuted
itemUnmutedDecoder =
    Decode.succeed ItemUnmuted
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| Somebody does not want to be told of an item's comments, but of what is meant for them. -}
type alias ItemUnwatched =
    { itemId : String
    , userId : String
    }


itemUnwatchedDecoder : Decoder ItemUnwatched
itemUnwatchedDecoder =
    Decode.succeed ItemUnwatched
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| Somebody wants to be told of an item's comments. On their own channel only. -}
type alias ItemWatched =
    { itemId : String
    , userId : String
    }


itemWatchedDecoder : Decoder ItemWatched
itemWatchedDecoder =
    Decode.succeed ItemWatched
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| A job was stopped because somebody asked for that. -}
type alias JobCancelled =
    { jobId : String
    , userId : String
    , taskType : String
    , timestamp : Int
    }


jobCancelledDecoder : Decoder JobCancelled
jobCancelledDecoder =
    Decode.succeed JobCancelled
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "task_type" Decode.string
        |> with "timestamp" Decode.int


{-| A job failed for good. -}
type alias JobFailed =
    { jobId : String
    , userId : String
    , taskType : String
    , error : String
    , errorType : String
    , timestamp : Int
    }


jobFailedDecoder : Decoder JobFailed
jobFailedDecoder =
    Decode.succeed JobFailed
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "task_type" Decode.string
        |> with "error" Decode.string
        |> with "error_type" Decode.string
        |> with "timestamp" Decode.int


{-| How far a job is. The latest is all there is: not recorded, and not every one is sent. -}
type alias JobProgressed =
    { jobId : String
    , done : Float
    , total : Maybe Float
    , message : String
    }


jobProgressedDecoder : Decoder JobProgressed
jobProgressedDecoder =
    Decode.succeed JobProgressed
        |> with "job_id" Decode.string
        |> with "done" Decode.float
        |> with "total" (Decode.nullable Decode.float)
        |> with "message" Decode.string


{-| Somebody asked for a job. `timestamp` is in Unix seconds. -}
type alias JobQueued =
    { jobId : String
    , userId : String
    , taskType : String
    , params : Decode.Value
    , timestamp : Int
    }


jobQueuedDecoder : Decoder JobQueued
jobQueuedDecoder =
    Decode.succeed JobQueued
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "task_type" Decode.string
        |> with "params" Decode.value
        |> with "timestamp" Decode.int


{-| A job failed and is tried again at `retry_at` (Unix seconds). -}
type alias JobRetrying =
    { jobId : String
    , userId : String
    , taskType : String
    , attempt : Int
    , error : String
    , errorType : String
    , retryAt : Int
    }


jobRetryingDecoder : Decoder JobRetrying
jobRetryingDecoder =
    Decode.succeed JobRetrying
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "task_type" Decode.string
        |> with "attempt" Decode.int
        |> with "error" Decode.string
        |> with "error_type" Decode.string
        |> with "retry_at" Decode.int


{-| A job's code sent something; `event` is what it calls that, if anything. -}
type alias JobSent =
    { jobId : String
    , userId : String
    , event : Maybe String
    , data : Decode.Value
    }


jobSentDecoder : Decoder JobSent
jobSentDecoder =
    Decode.succeed JobSent
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "event" (Decode.nullable Decode.string)
        |> with "data" Decode.value


{-| A worker has the job in hand, for the `attempt`th time. -}
type alias JobStarted =
    { jobId : String
    , userId : String
    , taskType : String
    , attempt : Int
    , timestamp : Int
    }


jobStartedDecoder : Decoder JobStarted
jobStartedDecoder =
    Decode.succeed JobStarted
        |> with "job_id" Decode.string
        |> with "user_id" Decode.string
        |> with "task_type" Decode.string
        |> with "attempt" Decode.int
        |> with "timestamp" Decode.int


{-| Where a job stands: told to who comes late, and when it is asked to stop. Not recorded. -}
type alias JobState =
    { jobId : String
    , taskType : String
    , state : String
    , progress : Decode.Value
    , result : Decode.Value
    , error : Maybe String
    , stopping : Bool
    }


jobStateDecoder : Decoder JobState
jobStateDecoder =
    Decode.succeed JobState
        |> with "job_id" Decode.string
        |> with "task_type" Decode.string
        |> with "state" Decode.string
        |> with "progress" Decode.value
        |> with "result" Decode.value
        |> with "error" (Decode.nullable Decode.string)
        |> with "stopping" Decode.bool


{-| Someone may read an item that is for members. Also on that user's own channel. -}
type alias MemberAdded =
    { itemId : String
    , userId : String
    }


memberAddedDecoder : Decoder MemberAdded
memberAddedDecoder =
    Decode.succeed MemberAdded
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| Someone is no longer a member of an item. Also on that user's own channel. -}
type alias MemberRemoved =
    { itemId : String
    , userId : String
    }


memberRemovedDecoder : Decoder MemberRemoved
memberRemovedDecoder =
    Decode.succeed MemberRemoved
        |> with "item_id" Decode.string
        |> with "user_id" Decode.string


{-| Somebody put a notification away; it is read, too. -}
type alias NotificationArchived =
    { userId : String
    , notificationId : String
    }


notificationArchivedDecoder : Decoder NotificationArchived
notificationArchivedDecoder =
    Decode.succeed NotificationArchived
        |> with "user_id" Decode.string
        |> with "notification_id" Decode.string


{-| Somebody is told something; with a `notification_id` that there is, it takes that one's place.

`actors` are the ids of those whose doing it is, the latest first, and `people` how many they
are; `count` is how many times they did it. `delivery` says whether to show it at once (`live`)
or to leave it in the inbox (`quiet`, `digest`). In Unix seconds, `since` is when the first of it
happened, and `timestamp` when the latest did. -}
type alias NotificationRaised =
    { notificationId : String
    , userId : String
    , kind : String
    , delivery : String
    , message : String
    , itemId : Maybe String
    , commentId : Maybe String
    , jobId : Maybe String
    , actorId : Maybe String
    , ownerId : Maybe String
    , actors : List String
    , people : Int
    , count : Int
    , since : Int
    , timestamp : Int
    }


notificationRaisedDecoder : Decoder NotificationRaised
notificationRaisedDecoder =
    Decode.succeed NotificationRaised
        |> with "notification_id" Decode.string
        |> with "user_id" Decode.string
        |> with "kind" Decode.string
        |> with "delivery" Decode.string
        |> with "message" Decode.string
        |> with "item_id" (Decode.nullable Decode.string)
        |> with "comment_id" (Decode.nullable Decode.string)
        |> with "job_id" (Decode.nullable Decode.string)
        |> with "actor_id" (Decode.nullable Decode.string)
        |> with "owner_id" (Decode.nullable Decode.string)
        |> with "actors" (Decode.list Decode.string)
        |> with "people" Decode.int
        |> with "count" Decode.int
        |> with "since" Decode.int
        |> with "timestamp" Decode.int


{-| Somebody wants to come back to a notification; it is no longer archived either. -}
type alias NotificationUnread =
    { userId : String
    , notificationId : String
    }


notificationUnreadDecoder : Decoder NotificationUnread
notificationUnreadDecoder =
    Decode.succeed NotificationUnread
        |> with "user_id" Decode.string
        |> with "notification_id" Decode.string


{-| Somebody saw these notifications; or all of an item; or, where neither is given, all there are. -}
type alias NotificationsRead =
    { userId : String
    , notificationIds : Maybe (List String)
    , itemId : Maybe String
    }


notificationsReadDecoder : Decoder NotificationsRead
notificationsReadDecoder =
    Decode.succeed NotificationsRead
        |> with "user_id" Decode.string
        |> with "notification_ids" (Decode.nullable (Decode.list Decode.string))
        |> with "item_id" (Decode.nullable Decode.string)


{-| Somebody wants to be told otherwise; all of it is given. Quiet hours are `HH:MM`, of their zone. -}
type alias PreferencesChanged =
    { userId : String
    , types : Dict String String
    , quietStart : Maybe String
    , quietEnd : Maybe String
    , timeZone : String
    , presence : String
    }


preferencesChangedDecoder : Decoder PreferencesChanged
preferencesChangedDecoder =
    Decode.succeed PreferencesChanged
        |> with "user_id" Decode.string
        |> with "types" (Decode.dict Decode.string)
        |> with "quiet_start" (Decode.nullable Decode.string)
        |> with "quiet_end" (Decode.nullable Decode.string)
        |> with "time_zone" Decode.string
        |> with "presence" Decode.string


{-| Who has the item open. Transient: on the item's channel, without an id, the latest is all there is. -}
type alias PresenceChanged =
    { itemId : String
    , users : List Person
    , total : Maybe Int
    }


presenceChangedDecoder : Decoder PresenceChanged
presenceChangedDecoder =
    Decode.succeed PresenceChanged
        |> with "item_id" Decode.string
        |> with "users" (Decode.list (Decode.lazy (\_ -> personDecoder)))
        |> with "total" (Decode.nullable Decode.int)


{-| An admin speaks. Show it until `expires_at`, or until it is recalled or dismissed. -}
type alias SystemAlert =
    { broadcastId : String
    , title : String
    , message : String
    , severity : String
    , link : Maybe String
    , startsAt : Int
    , expiresAt : Maybe Int
    }


systemAlertDecoder : Decoder SystemAlert
systemAlertDecoder =
    Decode.succeed SystemAlert
        |> with "broadcast_id" Decode.string
        |> with "title" Decode.string
        |> with "message" Decode.string
        |> with "severity" Decode.string
        |> with "link" (Decode.nullable Decode.string)
        |> with "starts_at" Decode.int
        |> with "expires_at" (Decode.nullable Decode.int)


{-| Somebody wants to see a broadcast no more, on any device; in the inbox it is read and archived. -}
type alias SystemAlertDismissed =
    { broadcastId : String
    , userId : String
    }


systemAlertDismissedDecoder : Decoder SystemAlertDismissed
systemAlertDismissedDecoder =
    Decode.succeed SystemAlertDismissed
        |> with "broadcast_id" Decode.string
        |> with "user_id" Decode.string


{-| A broadcast was taken back: show it no more. -}
type alias SystemAlertRecalled =
    { broadcastId : String
    , recalledAt : Int
    }


systemAlertRecalledDecoder : Decoder SystemAlertRecalled
systemAlertRecalledDecoder =
    Decode.succeed SystemAlertRecalled
        |> with "broadcast_id" Decode.string
        |> with "recalled_at" Decode.int


{-| Somebody wants to come back to a broadcast; it is dismissed no more either. -}
type alias SystemAlertUnread =
    { userId : String
    , broadcastId : String
    }


systemAlertUnreadDecoder : Decoder SystemAlertUnread
systemAlertUnreadDecoder =
    Decode.succeed SystemAlertUnread
        |> with "user_id" Decode.string
        |> with "broadcast_id" Decode.string


{-| A broadcast says something else; all of it is given. Who dismissed it need not see it again. -}
type alias SystemAlertUpdated =
    { broadcastId : String
    , title : String
    , message : String
    , severity : String
    , link : Maybe String
    , startsAt : Int
    , expiresAt : Maybe Int
    }


systemAlertUpdatedDecoder : Decoder SystemAlertUpdated
systemAlertUpdatedDecoder =
    Decode.succeed SystemAlertUpdated
        |> with "broadcast_id" Decode.string
        |> with "title" Decode.string
        |> with "message" Decode.string
        |> with "severity" Decode.string
        |> with "link" (Decode.nullable Decode.string)
        |> with "starts_at" Decode.int
        |> with "expires_at" (Decode.nullable Decode.int)


{-| Somebody saw these broadcasts in their inbox; they stay on the screen. On their own channel only. -}
type alias SystemAlertsRead =
    { userId : String
    , broadcastIds : List String
    }


systemAlertsReadDecoder : Decoder SystemAlertsRead
systemAlertsReadDecoder =
    Decode.succeed SystemAlertsRead
        |> with "user_id" Decode.string
        |> with "broadcast_ids" (Decode.list Decode.string)


{-| A job is done. -}
type alias TaskComplete =
    { userId : String
    , jobId : String
    , taskType : String
    , result : Decode.Value
    , durationMs : Int
    }


taskCompleteDecoder : Decoder TaskComplete
taskCompleteDecoder =
    Decode.succeed TaskComplete
        |> with "user_id" Decode.string
        |> with "job_id" Decode.string
        |> with "task_type" Decode.string
        |> with "result" Decode.value
        |> with "duration_ms" Decode.int


{-| The first frame of every connection: whether it goes on from where the client was. -}
type alias StreamOpen =
    { mode : String
    , cursor : String
    , missed : Maybe Int
    }


streamOpenDecoder : Decoder StreamOpen
streamOpenDecoder =
    Decode.succeed StreamOpen
        |> with "mode" Decode.string
        |> with "cursor" Decode.string
        |> with "missed" (Decode.nullable Decode.int)


{-| What the client missed has come; from here on events come as they happen. -}
type alias StreamLive =
    {}


streamLiveDecoder : Decoder StreamLive
streamLiveDecoder =
    Decode.succeed {}


{-| The log cannot go on from the client's last id: load the state anew. The stream goes on live. -}
type alias StreamReset =
    { reason : String
    , oldest : String
    }


streamResetDecoder : Decoder StreamReset
streamResetDecoder =
    Decode.succeed StreamReset
        |> with "reason" Decode.string
        |> with "oldest" Decode.string


{-| The last frame of a stream that the server ends. It comes with a `retry:`, the time to wait. -}
type alias StreamEnd =
    { reason : String
    }


streamEndDecoder : Decoder StreamEnd
streamEndDecoder =
    Decode.succeed StreamEnd
        |> with "reason" Decode.string
