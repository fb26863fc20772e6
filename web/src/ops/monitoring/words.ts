import { useTranslation } from "react-i18next";
import type { Tone } from "../parts/badge";
import type { Alert, Feature } from "./queries";

export const SEVERITY_TONES: Record<Alert["severity"], Tone> = {
  critical: "bad",
  warning: "warn",
  info: "info",
};

export const STATUS_TONES: Record<Feature["status"], Tone> = {
  drift: "bad",
  shifted: "warn",
  stable: "good",
  unknown: "plain",
};

/** The name of a feature in words: those of feeds begin with their source, as in `live.rows`. */
export function useFeatureName(): (feature: Feature) => string {
  const { t } = useTranslation("ops");
  return ({ name }) => {
    switch (name) {
      case "genre":
      case "new_releases":
      case "popularity":
      case "score":
      case "skew":
        return t(`monitoring.name.${name}`);
    }
    const dot = name.lastIndexOf(".");
    const [source, what] = [name.slice(0, dot), name.slice(dot + 1)];
    return what === "rows" || what === "values" ? t(`monitoring.name.${what}`, { source }) : name;
  };
}
