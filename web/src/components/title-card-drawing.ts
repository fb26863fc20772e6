import type { Film } from "../lib/films";

type Shape = { cx: number; cy: number; r: number; solid: boolean } | { d: string };

interface Drawing {
  from: string;
  to: string;
  glow: string;
  motif: Shape[];
  lines: string[];
  size: number;
}

/** Hue of a genre on the colour wheel; what is not here gets one from its name. */
const HUES: Record<string, number> = {
  Action: 25,
  Adventure: 75,
  Animation: 330,
  Comedy: 60,
  Crime: 265,
  Documentary: 200,
  Drama: 285,
  Family: 110,
  Fantasy: 310,
  History: 50,
  Horror: 15,
  Music: 345,
  Mystery: 275,
  Romance: 0,
  "Science Fiction": 225,
  Thriller: 245,
  War: 130,
  Western: 45,
};

const SIZES = [30, 26, 22, 19, 16];
const MEASURE = 168;
const MOST_LINES = 5;

/** All that a title card consists of, from the film alone. */
export function drawing(film: Film): Drawing {
  const seed = hash(`${film.title}|${film.year ?? ""}`);
  const hue = hueOf(film.genres?.[0] ?? film.title);
  const second = film.genres?.[1] === undefined ? hue + 40 : hueOf(film.genres[1]);
  const size = SIZES.find((px) => fits(wrap(film.title, px), px)) ?? 16;
  return {
    from: `oklch(0.5 0.12 ${hue})`,
    to: `oklch(0.24 0.075 ${second})`,
    glow: `oklch(0.8 0.1 ${(hue + 25) % 360} / 0.55)`,
    motif: motif(seed),
    lines: clip(wrap(film.title, size)),
    size,
  };
}

function motif(seed: number): Shape[] {
  const at = (shift: number, span: number) => (seed >>> shift) % span;
  const cx = 60 + at(3, 90);
  const cy = 80 + at(7, 50);
  switch (seed % 4) {
    case 0: // a moon and its rings
      return [18, 36, 54, 74, 96].map((r, index) => ({ cx, cy, r, solid: index === 0 }));
    case 1: // beams of a projector
      return [0, 1, 2, 3, 4, 5].map((n) => ({ d: `M${cx - 100} -10 L${60 + n * 30 + at(5, 20)} 220` }));
    case 2: // hills
      return [0, 1, 2, 3, 4].map((n) => ({
        d: `M-10 ${100 + n * 18} C 50 ${60 + n * 16 + at(n + 2, 30)}, 120 ${150 + n * 12 - at(n, 34)}, 210 ${90 + n * 19}`,
      }));
    default: // two that meet
      return [
        { cx: cx - 26, cy, r: 44, solid: false },
        { cx: cx + 26, cy, r: 44, solid: false },
        { cx, cy, r: 12, solid: true },
      ];
  }
}

/** Lines no wider than the card, as far as can be told without a font: Hangul and Han are square, Latin half. */
function wrap(title: string, size: number): string[] {
  const lines: string[] = [];
  for (const word of title.split(/\s+/)) {
    const last = lines.at(-1);
    if (last !== undefined && width(`${last} ${word}`, size) <= MEASURE)
      lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function fits(lines: string[], size: number): boolean {
  return lines.length <= (size > 20 ? 4 : MOST_LINES) && lines.every((line) => width(line, size) <= MEASURE);
}

function clip(lines: string[]): string[] {
  return lines.length <= MOST_LINES
    ? lines
    : [...lines.slice(0, MOST_LINES - 1), `${lines[MOST_LINES - 1] ?? ""}…`];
}

function width(text: string, size: number): number {
  let ems = 0;
  for (const char of text) ems += char > "\u2e7f" ? 0.96 : /[A-Z0-9MWmw@]/.test(char) ? 0.76 : 0.62;
  return ems * size;
}

function hueOf(name: string): number {
  return HUES[name] ?? hash(name) % 360;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at++) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return value;
}
