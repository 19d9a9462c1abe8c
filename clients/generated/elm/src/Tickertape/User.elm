module Tickertape.User exposing (UserStreamEvent(..), channel, subscribeToUser)

{-| What concerns a user. They alone read it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode exposing (Decoder)
import Tickertape.Events as Events
import Tickertape.Ports


{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}
type UserStreamEvent
    = EmailSent Events.EmailSent
    | ItemMuted Events.ItemMuted
    | ItemUnmuted Events.ItemUnmuted
    | ItemUnwatched Events.ItemUnwatched
    | ItemWatched Events.ItemWatched
    | JobCancelled Events.JobCancelled
    | JobFailed Events.JobFailed
    | JobQueued Events.JobQueued
    | JobRetrying Events.JobRetrying
    | JobStarted Events.JobStarted
    | MemberAdded Events.MemberAdded
    | MemberRemoved Events.MemberRemoved
    | NotificationArchived Events.NotificationArchived
    | NotificationRaised Events.NotificationRaised
    | NotificationUnread Events.NotificationUnread
    | NotificationsRead Events.NotificationsRead
    | PreferencesChanged Events.PreferencesChanged
    | SystemAlert Events.SystemAlert
    | SystemAlertDismissed Events.SystemAlertDismissed
    | SystemAlertRecalled Events.SystemAlertRecalled
    | SystemAlertUnread Events.SystemAlertUnread
    | SystemAlertUpdated Events.SystemAlertUpdated
    | SystemAlertsRead Events.SystemAlertsRead
    | TaskComplete Events.TaskComplete
    | StreamOpen Events.StreamOpen
    | StreamLive Events.StreamLive
    | StreamReset Events.StreamReset
    | StreamEnd Events.StreamEnd
    | Other Events.Received


{-| The channel's name, for `Tickertape.Ports.listen`. -}
channel : String -> String
channel userId =
    "user:" ++ userId


subscribeToUser : String -> (UserStreamEvent -> msg) -> Sub msg
subscribeToUser userId toMsg =
    Tickertape.Ports.received (read (channel userId) >> toMsg)


read : String -> Decode.Value -> UserStreamEvent
read wanted value =
    case Decode.decodeValue Events.receivedDecoder value of
        Ok received ->
            if received.channel == wanted then
                Decode.decodeValue (decoder received.event) received.data
                    |> Result.withDefault (Other received)

            else
                Other received

        Err _ ->
            Other { channel = "", event = "", id = "", data = value }


decoder : String -> Decoder UserStreamEvent
decoder event =
    case event of
        "EmailSent" ->
            Decode.map EmailSent Events.emailSentDecoder

        "ItemMuted" ->
            Decode.map ItemMuted Events.itemMutedDecoder

        "ItemUnmuted" ->
            Decode.map ItemUnmuted Events.itemUnmutedDecoder

        "ItemUnwatched" ->
            Decode.map ItemUnwatched Events.itemUnwatchedDecoder

        "ItemWatched" ->
            Decode.map ItemWatched Events.itemWatchedDecoder

        "JobCancelled" ->
            Decode.map JobCancelled Events.jobCancelledDecoder

        "JobFailed" ->
            Decode.map JobFailed Events.jobFailedDecoder

        "JobQueued" ->
            Decode.map JobQueued Events.jobQueuedDecoder

        "JobRetrying" ->
            Decode.map JobRetrying Events.jobRetryingDecoder

        "JobStarted" ->
            Decode.map JobStarted Events.jobStartedDecoder

        "MemberAdded" ->
            Decode.map MemberAdded Events.memberAddedDecoder

        "MemberRemoved" ->
            Decode.map MemberRemoved Events.memberRemovedDecoder

        "NotificationArchived" ->
            Decode.map NotificationArchived Events.notificationArchivedDecoder

        "NotificationRaised" ->
            Decode.map NotificationRaised Events.notificationRaisedDecoder

        "NotificationUnread" ->
            Decode.map NotificationUnread Events.notificationUnreadDecoder

        "NotificationsRead" ->
            Decode.map NotificationsRead Events.notificationsReadDecoder

        "PreferencesChanged" ->
            Decode.map PreferencesChanged Events.preferencesChangedDecoder

        "SystemAlert" ->
            Decode.map SystemAlert Events.systemAlertDecoder

        "SystemAlertDismissed" ->
            Decode.map SystemAlertDismissed Events.systemAlertDismissedDecoder

        "SystemAlertRecalled" ->
            Decode.map SystemAlertRecalled Events.systemAlertRecalledDecoder

        "SystemAlertUnread" ->
            Decode.map SystemAlertUnread Events.systemAlertUnreadDecoder

        "SystemAlertUpdated" ->
            Decode.map SystemAlertUpdated Events.systemAlertUpdatedDecoder

        "SystemAlertsRead" ->
            Decode.map SystemAlertsRead Events.systemAlertsReadDecoder

        "TaskComplete" ->
            Decode.map TaskComplete Events.taskCompleteDecoder

        "stream.open" ->
            Decode.map StreamOpen Events.streamOpenDecoder

        "stream.live" ->
            Decode.map StreamLive Events.streamLiveDecoder

        "stream.reset" ->
            Decode.map StreamReset Events.streamResetDecoder

        "stream.end" ->
            Decode.map StreamEnd Events.streamEndDecoder

        _ ->
            Decode.fail "not known"
