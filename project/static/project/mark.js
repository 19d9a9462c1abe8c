/**
 * A person's mark: their name punched into tape, in the telegraph's own code.
 *
 * International Telegraph Alphabet No. 2: five holes a letter, a small one for the sprocket
 * between the third and the second. Decoration, hidden from screen readers; the name is beside it.
 */

import { svg } from "./dom.js";

// Units 1 to 5 of the letters a to z (ITU-T S.1, letters case).
const ITA2 = Object.fromEntries(
  [
    "11000 10011 01110 10010 10000 10110 01011 00101 01100 11010 11110 01001 00111",
    "00110 00011 01101 11101 01010 10100 00001 11100 01111 11001 10111 10101 10001",
  ]
    .join(" ")
    .split(" ")
    .map((units, index) => [String.fromCharCode(97 + index), units]),
);
const LETTERS_SHIFT = "11111"; // what a tape has where there is nothing to say
const SPACE = "00100";

const COLUMNS = 5; // of a mark
const STEP = 6;
const TRACKS = [4, 9, 17, 22, 27]; // the gap holds the sprocket track
const SPROCKET = 13;

/** Make the mark of a name: the first letters of it, as a piece of tape. */
export function mark(name) {
  // Accents fall away, letters of other alphabets have no code.
  const letters = [...name.normalize("NFD").toLowerCase()].filter((letter) => letter in ITA2);
  const units = Array.from({ length: COLUMNS }, (_, column) => ITA2[letters[column]] ?? LETTERS_SHIFT);
  return tape(units, `mark mark--${hue(name)}`);
}

/** Make a strip of tape with a line of words on it. */
export function strip(words) {
  return tape([...words.toLowerCase()].map((letter) => ITA2[letter] ?? SPACE), "strip");
}

function tape(columns, name) {
  const width = columns.length * STEP + 2;
  const holes = columns.flatMap((units, column) => {
    const cx = 4 + column * STEP;
    const punched = TRACKS.filter((_, track) => units[track] === "1");
    return [
      svg("circle", { cx, cy: SPROCKET, r: 0.9 }),
      ...punched.map((cy) => svg("circle", { cx, cy, r: 2 })),
    ];
  });
  return svg(
    "svg",
    { class: name, viewBox: `0 0 ${width} 31`, "aria-hidden": "true", focusable: "false" },
    svg("rect", { class: "mark__tape", width, height: 31, rx: 2 }),
    svg("g", { class: "mark__holes" }, ...holes),
  );
}

function hue(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 997;
  return sum % 6;
}
