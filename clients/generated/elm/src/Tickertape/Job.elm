module Tickertape.Job exposing (JobStreamEvent(..), channel, subscribeToJob)

{-| A job, from its start to its end. Whoever asked for it reads it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode exposing (Decoder)
import Tickertape.Events as Events
import Tickertape.Ports


{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}
type JobStreamEvent
    = JobCancelled Events.JobCancelled
    | JobFailed Events.JobFailed
    | JobProgressed Events.JobProgressed
    | JobQueued Events.JobQueued
    | JobRetrying Events.JobRetrying
    | JobSent Events.JobSent
    | JobStarted Events.JobStarted
    | JobState Events.JobState
    | TaskComplete Events.TaskComplete
    | StreamOpen Events.StreamOpen
    | StreamLive Events.StreamLive
    | StreamReset Events.StreamReset
    | StreamEnd Events.StreamEnd
    | Other Events.Received


{-| The channel's name, for `Tickertape.Ports.listen`. -}
channel : String -> String
channel jobId =
    "job:" ++ jobId


subscribeToJob : String -> (JobStreamEvent -> msg) -> Sub msg
subscribeToJob jobId toMsg =
    Tickertape.Ports.received (read (channel jobId) >> toMsg)


read : String -> Decode.Value -> JobStreamEvent
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


decoder : String -> Decoder JobStreamEvent
decoder event =
    case event of
        "JobCancelled" ->
            Decode.map JobCancelled Events.jobCancelledDecoder

        "JobFailed" ->
            Decode.map JobFailed Events.jobFailedDecoder

        "JobProgressed" ->
            Decode.map JobProgressed Events.jobProgressedDecoder

        "JobQueued" ->
            Decode.map JobQueued Events.jobQueuedDecoder

        "JobRetrying" ->
            Decode.map JobRetrying Events.jobRetryingDecoder

        "JobSent" ->
            Decode.map JobSent Events.jobSentDecoder

        "JobStarted" ->
            Decode.map JobStarted Events.jobStartedDecoder

        "JobState" ->
            Decode.map JobState Events.jobStateDecoder

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
