port module Tickertape.Ports exposing (listen, received)

{-| The way to JavaScript and back: `tickertape.js` is the other side. Written by `manage.py generate_client --lang elm` from the catalogue of events: not to be edited. -}

import Json.Decode as Decode


{-| Say which channels are wanted, all of them: `[ "item:42", "system" ]`. -}
port listen : List String -> Cmd msg


port received : (Decode.Value -> msg) -> Sub msg
