/** The gate's report: kept as it was written, so that old ones may lack what newer ones have. */
export interface Interval {
  mean: number | null;
  low: number | null;
  high: number | null;
  n: number;
}

export interface Comparison {
  metric: string;
  part: string;
  challenger: Interval;
  champion: Interval;
  difference: Interval;
  judged: boolean;
  better: boolean;
  fell: boolean;
}

export interface GateCheck {
  name: string;
  passed: boolean;
  found: string;
}

export interface GateReport {
  verdict: string;
  reasons: string[];
  notes: string[];
  windows: string[];
  comparisons: Comparison[];
  checks: GateCheck[];
  limits: Record<string, unknown>;
  /** The champion it was compared with, in words. */
  against: string | null;
  latencyMs: number | null;
  bundleMib: number | null;
  forcedReason: string | null;
}

type Plain = Record<string, unknown>;

export function reportOf(raw: Plain): GateReport {
  const measured = plain(raw.measured);
  const champion = plain(raw.champion);
  return {
    verdict: text(raw.verdict) ?? "",
    reasons: texts(raw.reasons),
    notes: texts(raw.notes),
    windows: texts(raw.windows),
    comparisons: [raw.ndcg_at_10, raw.second_metric, ...list(raw.slices)].flatMap(comparisonOf),
    checks: list(measured.checks).map((each) => {
      const check = plain(each);
      return { name: text(check.name) ?? "", passed: check.passed === true, found: text(check.found) ?? "" };
    }),
    limits: plain(raw.limits),
    against: [text(champion.model), text(champion.version)].filter(Boolean).join(" ") || null,
    latencyMs: number(measured.latency_ms) ?? number(raw.latency_ms),
    bundleMib: number(measured.bundle_mib),
    forcedReason: text(raw.forced_reason),
  };
}

function comparisonOf(raw: unknown): Comparison[] {
  const one = plain(raw);
  const metric = text(one.metric);
  if (metric === null) return [];
  return [
    {
      metric,
      part: text(one.part) ?? "all",
      challenger: intervalOf(one.challenger),
      champion: intervalOf(one.champion),
      difference: intervalOf(one.difference),
      judged: one.judged === true,
      better: one.better === true,
      fell: one.fell === true,
    },
  ];
}

function intervalOf(raw: unknown): Interval {
  const one = plain(raw);
  return { mean: number(one.mean), low: number(one.low), high: number(one.high), n: number(one.n) ?? 0 };
}

function plain(raw: unknown): Plain {
  return typeof raw === "object" && raw !== null && !Array.isArray(raw) ? (raw as Plain) : {};
}

function list(raw: unknown): unknown[] {
  return Array.isArray(raw) ? raw : [];
}

function texts(raw: unknown): string[] {
  return list(raw).filter((each) => typeof each === "string");
}

function text(raw: unknown): string | null {
  return typeof raw === "string" && raw !== "" ? raw : null;
}

function number(raw: unknown): number | null {
  return typeof raw === "number" ? raw : null;
}
