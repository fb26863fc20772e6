import { Star } from "lucide-react";
import { useId } from "react";
import { useTranslation } from "react-i18next";
import { useFormat } from "../lib/format";
import styles from "./rating.module.css";

/** A known rating, 0–10, as one star and a number. */
export function RatingBadge({ value }: { value: number }) {
  const { t } = useTranslation();
  const { number } = useFormat();
  const text = number(value, { maximumFractionDigits: 1 });
  return (
    <span className={styles.badge} role="img" aria-label={t("rating.value", { value: text })}>
      <Star size={14} aria-hidden="true" fill="currentColor" />
      {text}
    </span>
  );
}

interface Props {
  /** 0–10; undefined while not rated. */
  value: number | undefined;
  onRate: (value: number) => void;
  /** Five of two points each, or ten. */
  stars?: 5 | 10;
}

/** Stars as radio buttons: arrows move, one Tab stop. */
export function RatingInput({ value, onRate, stars = 5 }: Props) {
  const { t } = useTranslation();
  const { number } = useFormat();
  const name = useId();
  const each = 10 / stars;
  return (
    <fieldset className={styles.input}>
      <legend className="visually-hidden">{t("rating.label")}</legend>
      {Array.from({ length: stars }, (_, index) => (index + 1) * each).map((points) => (
        <label key={points} className={styles.star} data-on={value !== undefined && value >= points - 0.5}>
          <input
            type="radio"
            className="visually-hidden"
            name={name}
            value={points}
            checked={value !== undefined && Math.round(value / each) * each === points}
            onChange={() => onRate(points)}
          />
          <span className="visually-hidden">{t("rating.value", { value: number(points) })}</span>
          <Star size={stars === 5 ? 26 : 20} aria-hidden="true" />
        </label>
      ))}
    </fieldset>
  );
}
