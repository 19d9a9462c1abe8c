module Tickertape.Preferences exposing (PreferenceStreamEvent(..), channel, subscribeToPreferences)

{-| What concerns a user. They alone read it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode exposing (Decoder)
import Tickertape.Events as Events
import Tickertape.Ports


{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}
type PreferenceStreamEvent
    = PreferencesChanged Events.PreferencesChanged
    | StreamOpen Events.StreamOpen
    | StreamLive Events.StreamLive
    | StreamReset Events.StreamReset
    | StreamEnd Events.StreamEnd
    | Other Events.Received


{-| The channel's name, for `Tickertape.Ports.listen`. -}
channel : String -> String
channel userId =
    "user:" ++ userId


subscribeToPreferences : String -> (PreferenceStreamEvent -> msg) -> Sub msg
subscribeToPreferences userId toMsg =
    Tickertape.Ports.received (read (channel userId) >> toMsg)


read : String -> Decode.Value -> PreferenceStreamEvent
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


decoder : String -> Decoder PreferenceStreamEvent
decoder event =
    case event of
        "PreferencesChanged" ->
            Decode.map PreferencesChanged Events.preferencesChangedDecoder

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
