// What must compile, and what must not.
import { Client, follow, type State } from "../../../clients/js/index.js";

type Shop = {
  OrderShipped: { order_id: string; parcels: number };
  OrderLost: { order_id: string };
};

const client = new Client<Shop>({ onState: (state: State, why) => console.log(state, why.missed) });
const orders = client.subscribe(["order:7"], {
  OrderShipped: ({ order_id, parcels }, { id }) => console.log(order_id.length, parcels + 1, id ?? "none"),
});
orders.ready.then((place: string) => console.log(place));
orders.close();
follow<Shop>("/streams/orders/7/", { OrderLost: ({ order_id }) => console.log(order_id) }).close();
new Client().subscribe("item:7", { CommentAdded: (comment) => console.log(comment.text) });

// @ts-expect-error: there is no such field
client.subscribe("order:7", { OrderShipped: ({ parcel }) => console.log(parcel) });
// @ts-expect-error: there is no such type
client.subscribe("order:7", { OrderShiped: () => {} });
// @ts-expect-error: no state is called so
const state: State = client.state === "live" ? "online" : "over";
// @ts-expect-error: there is no such way
new Client({ way: "telegraph" });
