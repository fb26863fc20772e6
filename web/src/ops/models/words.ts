import { useTranslation } from "react-i18next";
import type { Tone } from "../parts/badge";

const TONES: Record<string, Tone> = { passed: "good", forced: "warn", waiting: "info", refused: "bad" };

export function verdictTone(verdict: string | null): Tone {
  return TONES[verdict ?? ""] ?? "plain";
}

export function useVerdict(): (verdict: string | null) => string {
  const { t } = useTranslation("ops");
  return (verdict) => {
    switch (verdict) {
      case "passed":
      case "refused":
      case "waiting":
      case "forced":
        return t(`models.verdict.${verdict}`);
      default:
        return t("models.verdict.none");
    }
  };
}
