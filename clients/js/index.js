/** What there is. Types and what each does are in index.d.ts. */

export { Client, ROUTES } from "./src/client.js";
export { follow } from "./src/follow.js";
export { Parser } from "./src/parser.js";
