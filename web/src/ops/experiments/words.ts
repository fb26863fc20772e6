import { useTranslation } from "react-i18next";
import type { Tone } from "../parts/badge";
import { shortVersion } from "../parts/format";
import type { Summary } from "./queries";

export const STATUS_TONES: Record<Summary["status"], Tone> = {
  running: "busy",
  stopped: "plain",
  promoted: "good",
  rolled_back: "bad",
};

/** Arms are named after versions where nobody named them: the model says more. */
export function armNamer(arms: Summary["arms"]): (name: string) => string {
  return (name) => {
    const arm = arms.find((each) => each.name === name);
    return arm?.name === arm?.version && arm ? `${arm.model} ${shortVersion(arm.version)}` : name;
  };
}

export function useComparisonVerdict(): (verdict: string) => { tone: Tone; text: string } {
  const { t } = useTranslation("ops");
  return (verdict) => {
    switch (verdict) {
      case "better":
        return { tone: "good", text: t("experiments.verdict.better") };
      case "worse":
        return { tone: "bad", text: t("experiments.verdict.worse") };
      case "not decided yet":
        return { tone: "plain", text: t("experiments.verdict.open") };
      default:
        return { tone: "plain", text: verdict };
    }
  };
}
