module Tickertape.Item exposing (ItemStreamEvent(..), channel, subscribeToItem)

{-| An item and its comments. Who may read it hears it. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode exposing (Decoder)
import Tickertape.Events as Events
import Tickertape.Ports


{-| `Other` is of another channel, or not known here. On `StreamReset`, load anew. -}
type ItemStreamEvent
    = CommentAdded Events.CommentAdded
    | CommentDeleted Events.CommentDeleted
    | CommentUpdated Events.CommentUpdated
    | ItemChanged Events.ItemChanged
    | ItemCreated Events.ItemCreated
    | ItemDeleted Events.ItemDeleted
    | MemberAdded Events.MemberAdded
    | MemberRemoved Events.MemberRemoved
    | PresenceChanged Events.PresenceChanged
    | StreamOpen Events.StreamOpen
    | StreamLive Events.StreamLive
    | StreamReset Events.StreamReset
    | StreamEnd Events.StreamEnd
    | Other Events.Received


{-| The channel's name, for `Tickertape.Ports.listen`. -}
channel : String -> String
channel itemId =
    "item:" ++ itemId


subscribeToItem : String -> (ItemStreamEvent -> msg) -> Sub msg
subscribeToItem itemId toMsg =
    Tickertape.Ports.received (read (channel itemId) >> toMsg)


read : String -> Decode.Value -> ItemStreamEvent
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


decoder : String -> Decoder ItemStreamEvent
decoder event =
    case event of
        "CommentAdded" ->
            Decode.map CommentAdded Events.commentAddedDecoder

        "CommentDeleted" ->
            Decode.map CommentDeleted Events.commentDeletedDecoder

        "CommentUpdated" ->
            Decode.map CommentUpdated Events.commentUpdatedDecoder

        "ItemChanged" ->
            Decode.map ItemChanged Events.itemChangedDecoder

        "ItemCreated" ->
            Decode.map ItemCreated Events.itemCreatedDecoder

        "ItemDeleted" ->
            Decode.map ItemDeleted Events.itemDeletedDecoder

        "MemberAdded" ->
            Decode.map MemberAdded Events.memberAddedDecoder

        "MemberRemoved" ->
            Decode.map MemberRemoved Events.memberRemovedDecoder

        "PresenceChanged" ->
            Decode.map PresenceChanged Events.presenceChangedDecoder

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
