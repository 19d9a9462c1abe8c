module Tickertape.Group exposing (GroupStreamEvent(..), channel, subscribeToGroup)

{-| What concerns a group. Its members read it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode exposing (Decoder)
import Tickertape.Events as Events
import Tickertape.Ports


{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}
type GroupStreamEvent
    = SystemAlert Events.SystemAlert
    | SystemAlertRecalled Events.SystemAlertRecalled
    | SystemAlertUpdated Events.SystemAlertUpdated
    | StreamOpen Events.StreamOpen
    | StreamLive Events.StreamLive
    | StreamReset Events.StreamReset
    | StreamEnd Events.StreamEnd
    | Other Events.Received


{-| The channel's name, for `Tickertape.Ports.listen`. -}
channel : String -> String
channel groupName =
    "group:" ++ groupName


subscribeToGroup : String -> (GroupStreamEvent -> msg) -> Sub msg
subscribeToGroup groupName toMsg =
    Tickertape.Ports.received (read (channel groupName) >> toMsg)


read : String -> Decode.Value -> GroupStreamEvent
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


decoder : String -> Decoder GroupStreamEvent
decoder event =
    case event of
        "SystemAlert" ->
            Decode.map SystemAlert Events.systemAlertDecoder

        "SystemAlertRecalled" ->
            Decode.map SystemAlertRecalled Events.systemAlertRecalledDecoder

        "SystemAlertUpdated" ->
            Decode.map SystemAlertUpdated Events.systemAlertUpdatedDecoder

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
