import { Check, Eye, EyeOff, Heart } from "lucide-react";
import { useId, useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { useReport, useUndo } from "../../client/events";
import { Button } from "../../components/button";
import { RatingInput } from "../../components/rating";
import { Slider } from "../../components/slider";
import type { Film } from "../../lib/films";
import { useFormat } from "../../lib/format";
import type { Action } from "../../state/feedback";
import { useMine } from "./mine";
import styles from "./actions.module.css";

/** Assumed where a film's length is not known. */
const USUAL_MINUTES = 120;

interface Props {
  film: Film;
  runtime: number | null;
  requestId: string | undefined;
}

/** All that a viewer can do with a film. What is done is pressed; pressed again, it is taken back. */
export function Actions({ film, runtime, requestId }: Props) {
  const { t } = useTranslation("film");
  const { minutes, number } = useFormat();
  const report = useReport();
  const undo = useUndo();
  const mine = useMine(film.item_id);
  const [asking, setAsking] = useState(false);
  const panel = useId();

  const takeBack = (action: Action) => {
    const eventKey = mine[action]?.eventKey;
    if (eventKey) undo.mutate({ action, film, eventKey });
  };
  const toggle = (action: "like" | "hide") => {
    if (mine[action]) takeBack(action);
    else report.mutate({ action, film, requestId });
  };
  const rating = mine.rate?.rating ?? mine.watch?.rating;
  const seconds = mine.watch?.watchSeconds;

  return (
    <section className={styles.actions} aria-label={t("actions")}>
      <div className={styles.buttons}>
        <Button
          variant={mine.watch ? "secondary" : "primary"}
          className={styles.toggle}
          aria-pressed={mine.watch !== undefined}
          aria-expanded={mine.watch ? undefined : asking}
          aria-controls={asking && !mine.watch ? panel : undefined}
          disabled={mine.watch?.eventKey === null}
          onClick={() => (mine.watch ? takeBack("watch") : setAsking(!asking))}
        >
          {mine.watch ? <Check size={18} aria-hidden="true" /> : <Eye size={18} aria-hidden="true" />}
          {mine.watch
            ? seconds === undefined
              ? t("watched")
              : t("watchedFor", { minutes: minutes(Math.round(seconds / 60)) })
            : t("watch")}
        </Button>
        <Toggle on={mine.like} label={t(mine.like ? "liked" : "like")} onClick={() => toggle("like")}>
          <Heart size={18} aria-hidden="true" {...(mine.like ? { fill: "currentColor" } : {})} />
        </Toggle>
        <Toggle on={mine.hide} label={t(mine.hide ? "hidden" : "hide")} onClick={() => toggle("hide")}>
          <EyeOff size={18} aria-hidden="true" />
        </Toggle>
      </div>
      {asking && !mine.watch ? (
        <HowMuch
          id={panel}
          runtime={runtime ?? USUAL_MINUTES}
          onDone={(watchSeconds) => {
            setAsking(false);
            report.mutate({ action: "watch", film, watchSeconds, requestId });
          }}
        />
      ) : null}
      <div className={styles.rate}>
        <RatingInput
          stars={10}
          value={rating}
          onRate={(points) => report.mutate({ action: "rate", film, rating: points, requestId })}
        />
        <span className={styles.rated}>
          {rating === undefined
            ? t("rateHint")
            : t("rated", { rating: number(rating, { maximumFractionDigits: 1 }) })}
        </span>
        {mine.rate?.eventKey ? (
          <Button variant="quiet" size="s" onClick={() => takeBack("rate")}>
            {t("unrate")}
          </Button>
        ) : null}
      </div>
    </section>
  );
}

interface ToggleProps {
  on: { eventKey: string | null } | undefined;
  label: string;
  onClick: () => void;
  children: ReactNode;
}

function Toggle({ on, label, onClick, children }: ToggleProps) {
  return (
    <Button
      className={styles.toggle}
      aria-pressed={on !== undefined}
      disabled={on?.eventKey === null}
      onClick={onClick}
    >
      {children}
      {label}
    </Button>
  );
}

function HowMuch({
  id,
  runtime,
  onDone,
}: {
  id: string;
  runtime: number;
  onDone: (seconds: number) => void;
}) {
  const { t } = useTranslation("film");
  const { percent, minutes } = useFormat();
  const [share, setShare] = useState(1);
  const seconds = Math.round(runtime * 60 * share);
  const amount = (part: number) => `${minutes(Math.round(runtime * part))} · ${percent(part)}`;
  return (
    <div id={id} className={styles.ask}>
      <Slider
        label={t("howMuch")}
        value={share}
        onChange={setShare}
        min={0.05}
        step={0.05}
        format={amount}
        ends={[t("little"), t("all")]}
      />
      <Button variant="primary" size="s" onClick={() => onDone(seconds)}>
        {t("watchDone")}
      </Button>
    </div>
  );
}
