import { useId } from "react";
import type { Film } from "../lib/films";
import { useFormat } from "../lib/format";
import { drawing } from "./title-card-drawing";

const WIDTH = 200;
const HEIGHT = 300;
const LINE = 1.14;

/** A poster drawn from title, year and genres: the same film always looks the same. */
export function TitleCard({ film, className }: { film: Film; className?: string | undefined }) {
  const id = useId();
  const { genre } = useFormat();
  const { from, to, glow, motif, lines, size } = drawing(film);
  const first = HEIGHT - 46 - (lines.length - 1) * size * LINE;
  return (
    <svg
      className={className}
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="xMidYMid slice"
      aria-hidden="true"
    >
      <defs>
        <linearGradient id={`${id}-sky`} x1="0" y1="0" x2="0.6" y2="1">
          <stop offset="0" stopColor={from} />
          <stop offset="1" stopColor={to} />
        </linearGradient>
        <linearGradient id={`${id}-foot`} x1="0" y1="0" x2="0" y2="1">
          <stop offset="0" stopColor="#000" stopOpacity="0" />
          <stop offset="1" stopColor="#000" stopOpacity="0.62" />
        </linearGradient>
      </defs>
      <rect width={WIDTH} height={HEIGHT} fill={`url(#${id}-sky)`} />
      <g fill="none" stroke={glow} strokeWidth="1.5" opacity="0.75">
        {motif.map((shape, index) =>
          "d" in shape ? (
            <path key={index} d={shape.d} />
          ) : (
            <circle
              key={index}
              cx={shape.cx}
              cy={shape.cy}
              r={shape.r}
              {...(shape.solid ? { fill: glow, stroke: "none" } : {})}
            />
          ),
        )}
      </g>
      <rect y={HEIGHT * 0.4} width={WIDTH} height={HEIGHT * 0.6} fill={`url(#${id}-foot)`} />
      <g fill="#fff" fontFamily="var(--font)">
        <text x="16" y="30" fontSize="11" fontWeight="600" letterSpacing="0.06em" opacity="0.92">
          {film.genres?.[0] ? genre(film.genres[0]) : ""}
        </text>
        <text fontSize={size} fontWeight="750" letterSpacing="-0.02em">
          {lines.map((line, index) => (
            <tspan key={index} x="16" y={first + index * size * LINE}>
              {line}
            </tspan>
          ))}
        </text>
        <text x="16" y={HEIGHT - 18} fontSize="13" opacity="0.92">
          {film.year ?? ""}
        </text>
      </g>
    </svg>
  );
}
