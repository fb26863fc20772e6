import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLang } from "../../i18n";
import { useFormat } from "../../lib/format";

const UNITS = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
] as const;

/** Numbers and times as the console shows them. */
export function useOpsFormat() {
  const lang = useLang();
  const { t } = useTranslation("ops");
  const plain = useFormat();
  const unit = (value: number, name: string, digits = 0) =>
    plain.number(value, {
      style: "unit",
      unit: name,
      unitDisplay: "short",
      maximumFractionDigits: digits,
    });
  return {
    ...plain,
    /** A length of time by its two largest units: `2 hr 5 min`. */
    duration: (seconds: number): string => {
      if (seconds < 10) return unit(seconds, "second", 1);
      const at = UNITS.findIndex(([, size]) => seconds >= size);
      const [name, size] = UNITS[at] ?? UNITS[3];
      const first = unit(Math.floor(seconds / size), name);
      const next = UNITS[at + 1];
      const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
      return next && rest > 0 ? `${first} ${unit(rest, next[0])}` : first;
    },
    /** How long ago, by the largest unit. */
    ago: (seconds: number): string => {
      const [name, size] = UNITS.find(([, length]) => seconds >= length) ?? UNITS[3];
      const formatter = new Intl.RelativeTimeFormat(lang, { numeric: "auto" });
      return formatter.format(-Math.floor(Math.max(0, seconds) / size), name);
    },
    time: (at: string | number) =>
      new Intl.DateTimeFormat(lang, { timeStyle: "medium" }).format(new Date(at)),
    clock: (at: string | number) =>
      new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit" }).format(new Date(at)),
    milliseconds: (value: number | null) =>
      value === null ? t("none") : unit(value, "millisecond", value < 10 ? 1 : 0),
    bytes: (value: number | null) => {
      if (value === null) return t("none");
      if (value < 1_000_000) return unit(value / 1_000, "kilobyte", 0);
      return unit(value / 1_000_000, "megabyte", 1);
    },
    figure: (value: number | null | undefined, digits = 4) =>
      value === null || value === undefined
        ? t("none")
        : plain.number(value, { maximumFractionDigits: digits }),
    signed: (value: number, digits = 4) =>
      plain.number(value, { maximumFractionDigits: digits, signDisplay: "exceptZero" }),
  };
}

/** The present, moving on every `everyMs`; still where that is null. */
export function useNow(everyMs: number | null): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (everyMs === null) return;
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** Seconds from one moment to another. */
export function secondsBetween(from: string, to: string | number): number {
  return Math.max(0, (new Date(to).getTime() - new Date(from).getTime()) / 1_000);
}

/** `20261123T031103.256905Z-45167f2a2c98` → `45167f2a`: enough to tell versions apart in a line. */
export function shortVersion(version: string | null): string {
  if (version === null) return "–";
  const mark = version.split("-").at(-1) ?? version;
  return mark.slice(0, 8);
}
